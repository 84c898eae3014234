"""The vision tower block by block, and the way out of it, by the checkpoint's own modules."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from engine.shapes import Hidden, PatchEmbeddings, PixelValues, Pooled


def exact_convolutions() -> AbstractContextManager[None]:
    """For patch embeddings: cuDNN takes TF32 unless told, and float32 would be one in name only."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


@torch.no_grad()
def stream(vision: Any, pixel_values: PixelValues, blocks: Iterable[Any] | None = None) -> Iterator[Hidden]:
    """hidden_states[0..L], each as soon as it exists: after the embeddings, then after each block.

    The library's own loop (`SiglipEncoder.forward`, no mask) unrolled, so that a lens can read a layer and
    let it go: all hidden states of so400m are 94 MB an image, one is 3.4 MB. `blocks` run instead of its own.
    """
    hidden = embed_patches(vision, pixel_values)
    yield hidden
    for block in vision.encoder.layers if blocks is None else blocks:
        hidden = block(hidden, None)
        yield hidden


@torch.no_grad()
def embed_patches(vision: Any, pixel_values: PixelValues) -> Hidden:
    """hidden_states[0]: each patch embedded, and its position added."""
    with exact_convolutions():
        hidden: torch.Tensor = vision.embeddings(pixel_values)
    return hidden


@torch.no_grad()
def read_head(vision: Any, hidden: Hidden) -> Pooled:
    """head(post_layernorm(hidden)): the norm's statistics are recomputed for whatever layer this is."""
    pooled: torch.Tensor = vision.head(vision.post_layernorm(hidden))
    return pooled


@torch.no_grad()
def read_patches(vision: Any, hidden: Hidden) -> PatchEmbeddings:
    """What the head would read of each token if it were the only one: [batch, patch, width].

    The probe's softmax over a lone token is 1 whatever the token is, so attention comes down to its values:
    u_n = W_O (W_V z_n + b_V) + b_O with z = post_layernorm(hidden), and e_n = u_n + MLP(LN_head u_n).
    """
    attention = vision.head.attention
    # one matrix holds query, key and value, in this order
    _, _, value_weight = attention.in_proj_weight.chunk(3)
    _, _, value_bias = attention.in_proj_bias.chunk(3)
    value = linear(vision.post_layernorm(hidden), value_weight, value_bias)
    attended = attention.out_proj(value)
    embeddings: torch.Tensor = attended + vision.head.mlp(vision.head.layernorm(attended))
    return embeddings


@dataclass(frozen=True, slots=True)
class Stock:
    """What the library itself makes of some pictures: hidden_states[0..L], and its `pooler_output`."""

    states: tuple[Hidden, ...]
    pooled: Pooled


@torch.no_grad()
def run_stock(vision: Any, pixel_values: PixelValues) -> Stock:
    """One pass of the vision tower as transformers runs it, untouched."""
    with exact_convolutions():
        found = vision(pixel_values=pixel_values, output_hidden_states=True)
    return Stock(found.hidden_states, found.pooler_output)


def check_last_layer(vision: Any, stock: Stock) -> float:
    """Largest difference of the last layer's lens from the library's own `pooler_output`: 0.0 when sound."""
    return float((read_head(vision, stock.states[-1]) - stock.pooled).abs().max())
