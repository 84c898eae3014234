"""The vision tower block by block, and the way out of it, by the checkpoint's own modules."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from engine.shapes import Hidden, PixelValues, Pooled


@torch.no_grad()
def stream(vision: Any, pixel_values: PixelValues) -> Iterator[Hidden]:
    """hidden_states[0..L], each as soon as it exists: after the embeddings, then after each block.

    The library's own loop (`SiglipEncoder.forward`, no mask) unrolled, so that a lens can read a layer and
    let it go: all hidden states of so400m are 94 MB an image, one is 3.4 MB.
    """
    # cuDNN convolutions use TF32 unless told, which would make a float32 patch embedding one in name only.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        hidden = vision.embeddings(pixel_values)
    yield hidden
    for block in vision.encoder.layers:
        hidden = block(hidden, None)
        yield hidden


@torch.no_grad()
def read_head(vision: Any, hidden: Hidden) -> Pooled:
    """head(post_layernorm(hidden)): the norm's statistics are recomputed for whatever layer this is."""
    pooled: torch.Tensor = vision.head(vision.post_layernorm(hidden))
    return pooled


@torch.no_grad()
def check_last_layer(vision: Any, pixel_values: PixelValues) -> float:
    """Largest difference of the last layer's lens from the library's own `pooler_output`: 0.0 when sound."""
    (hidden,) = deque(stream(vision, pixel_values), maxlen=1)
    own = read_head(vision, hidden)
    stock = vision(pixel_values=pixel_values).pooler_output
    return float((own - stock).abs().max())
