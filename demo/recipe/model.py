"""The demo checkpoint's model: built from nothing, read window by window, saved as the library expects it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import SiglipConfig, SiglipModel

from demo.recipe.axes import Hidden, Masks, PixelValues, Reads
from demo.recipe.stages import Sizes
from demo.recipe.tokenizer import END, VOCABULARY

FIRST_SCALE: Final = math.log(10)
FIRST_BIAS: Final = -5.0


def build_model(sizes: Sizes) -> Any:
    """A SigLIP with random weights, from torch's generator as it stands."""
    end = VOCABULARY.index(END)
    config = SiglipConfig(
        text_config={
            "vocab_size": len(VOCABULARY),
            "hidden_size": sizes.width,
            "intermediate_size": sizes.text_mlp * sizes.width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "max_position_embeddings": sizes.positions,
            "pad_token_id": end,
            "bos_token_id": None,
            "eos_token_id": end,
            "projection_size": sizes.width,
        },
        vision_config={
            "hidden_size": sizes.width,
            "intermediate_size": sizes.mlp * sizes.width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
        },
        # twice as fast on a CPU, at this size, as the fused attention
        attn_implementation="eager",
    )
    model = SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(FIRST_SCALE)
        model.logit_bias.fill_(FIRST_BIAS)
    return model


def hidden_states(vision: Any, pixel_values: PixelValues) -> Iterator[Hidden]:
    """The residual stream after the embeddings and after each block, before the final norm."""
    hidden = vision.embeddings(pixel_values)
    yield hidden
    for block in vision.encoder.layers:
        hidden = block(hidden, None)
        yield hidden


def read_windows(vision: Any, normed: Hidden, masks: Masks) -> Reads:
    """What the head reads when it attends to the patches of each mask only.

    `normed` has passed the final norm. Keys and values are computed once for all masks; under a mask of all
    patches this is the head itself.
    """
    head = vision.head
    attention = head.attention
    scenes, patches, width = normed.shape
    heads, channels = attention.num_heads, width // attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = functional.linear(head.probe[0], weight[:width], bias[:width]).view(heads, channels)
    pairs = functional.linear(normed, weight[width:], bias[width:])
    key, value = pairs.view(scenes, patches, 2, heads, channels).unbind(2)
    scores = torch.einsum("he,bnhe->bhn", query, key).float()[:, :, None] / math.sqrt(channels)
    shares = scores.masked_fill(~masks[:, None], -1e9).softmax(-1).to(value.dtype)
    mixed = torch.einsum("bhkn,bnhe->bkhe", shares, value).reshape(scenes, -1, width)
    read = attention.out_proj(mixed)
    result: torch.Tensor = read + head.mlp(head.layernorm(read))
    return result


def save(model: Any, tokenizer: Any, sizes: Sizes, folder: Path) -> None:
    """Write the checkpoint's files, as `transformers` and the engine read them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    # The library writes a class of its own version; this one every version knows.
    _write(
        settings,
        json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"},
    )
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": sizes.image, "width": sizes.image},
        },
    )


def _write(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")
