"""What the loaded checkpoint is, read from its own files and never from a table."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The checkpoint's sizes and its trained scale.

    `grid` is [rows, cols] of patch tokens: `img_size // patch_size` each way; pixels beyond
    `grid * patch_size` are never read (6 of 384 with patches of 14). `layers` is L, the number of blocks;
    there are L + 1 hidden states. `logit_scale` is exp of the stored parameter: the factor of the cosine.
    """

    img_size: int
    patch_size: int
    grid: tuple[int, int]
    layers: int
    hidden_size: int
    attention_heads: int
    mlp_size: int
    layer_norm_eps: float
    text_positions: int
    text_vocab_size: int
    text_layers: int
    logit_scale: float
    logit_bias: float

    @property
    def patch_tokens(self) -> int:
        """Number of patch tokens: rows x cols."""
        rows, cols = self.grid
        return rows * cols


def read_config(model: Any) -> EngineConfig:
    """The configuration of a loaded `SiglipModel`."""
    vision, text = model.config.vision_config, model.config.text_config
    side = vision.image_size // vision.patch_size
    return EngineConfig(
        img_size=vision.image_size,
        patch_size=vision.patch_size,
        grid=(side, side),
        layers=vision.num_hidden_layers,
        hidden_size=vision.hidden_size,
        attention_heads=vision.num_attention_heads,
        mlp_size=vision.intermediate_size,
        layer_norm_eps=vision.layer_norm_eps,
        text_positions=text.max_position_embeddings,
        text_vocab_size=text.vocab_size,
        text_layers=text.num_hidden_layers,
        logit_scale=float(model.logit_scale.detach().float().exp()),
        logit_bias=float(model.logit_bias.detach().float()),
    )
