"""What a job is estimated to cost before any of it is run: by this it is cut, placed and limited."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.catalog import Checkpoint, Dimensions
from engine.labels import count_prompts
from engine.layers import LayerChoice, resolve_layers
from models.types import JobType

BASE_224: Final = Dimensions(
    image_size=224, patch_size=16, hidden_size=768, layers=12, attention_heads=12, mlp_size=3072
)
"""Stands in for a mapped folder whose sizes this process does not know."""
TEXT_TOKENS: Final = 64
SCORED_LABELS: Final = 100
GIGA: Final = 1e9
_FLOAT_BYTES: Final = 4
# hidden state, its normed copy, attention's three inputs and its output: what a block holds of an image
_LIVE_STATES: Final = 8


@dataclass(frozen=True, slots=True)
class Price:
    """An estimate for one item: work in GFLOP, memory in a batch in bytes; and for the whole job's labels."""

    item_gflop: float
    item_bytes: int
    label_gflop: float = 0.0


def price(type_: JobType, options: Mapping[str, Any], kind: str, checkpoint: Checkpoint) -> Price:
    """The price of one item of a job, and of embedding its labels once.

    Counted are multiply-adds of matrix products, as two operations each: a block does 8 width^2 + 4 width mlp
    a token for its projections and MLP, and 4 tokens width for attention (Hoffmann et al. 2022,
    arXiv 2203.15556, appendix F, without the vocabulary).
    """
    sizes = checkpoint.dimensions or BASE_224
    if kind == "text":
        return Price(_tower_gflop(sizes, TEXT_TOKENS), _tower_bytes(sizes, TEXT_TOKENS))
    gflop, memory = _tower_gflop(sizes, sizes.patch_tokens), _tower_bytes(sizes, sizes.patch_tokens)
    labels = options.get("labels", ())
    if type_ is JobType.LOGIT_LENS:
        gflop += _head_gflop(sizes) + _count(options["layers"], sizes.layers) * _folded_gflop(sizes)
        if "patch" in options["outputs"]:
            maps = _count(options["patch_layers"] or [sizes.layers], sizes.layers)
            gflop += maps * _patch_gflop(sizes, options["patch_method"])
            kept = min(len(labels), SCORED_LABELS)
            memory += maps * sizes.patch_tokens * (sizes.hidden_size + kept) * _FLOAT_BYTES
    return Price(gflop, memory, count_prompts(labels) * _tower_gflop(sizes, TEXT_TOKENS))


def _count(layers: LayerChoice, depth: int) -> int:
    # a list is counted as it is: of a folder that only the workers can read, the depth here is a guess
    return len(set(layers)) if isinstance(layers, list) else len(resolve_layers(layers, depth))


def _tower_gflop(sizes: Dimensions, tokens: int) -> float:
    width = sizes.hidden_size
    a_token = 8 * width**2 + 4 * width * sizes.mlp_size + 4 * tokens * width
    return tokens * a_token * sizes.layers / GIGA


def _head_gflop(sizes: Dimensions) -> float:
    """The pooling head over all patches: keys and values of each."""
    return 4 * sizes.patch_tokens * sizes.hidden_size**2 / GIGA


def _folded_gflop(sizes: Dimensions) -> float:
    """The folded head over all patches: what each head attends to, and the tokens so pooled."""
    return 4 * sizes.patch_tokens * sizes.attention_heads * sizes.hidden_size / GIGA


def _patch_gflop(sizes: Dimensions, method: str) -> float:
    """Of each patch alone its value, projected: one folded matrix, or the two of the head and its MLP."""
    width = sizes.hidden_size
    if method == "value":
        return sizes.patch_tokens * 2 * width**2 / GIGA
    return sizes.patch_tokens * (4 * width**2 + 4 * width * sizes.mlp_size) / GIGA


def _tower_bytes(sizes: Dimensions, tokens: int) -> int:
    return tokens * (_LIVE_STATES * sizes.hidden_size + sizes.mlp_size) * _FLOAT_BYTES
