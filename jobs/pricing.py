"""What a job is estimated to cost before any of it is run: by this it is cut, placed and limited."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.catalog import Checkpoint, Dimensions
from engine.labels import count_prompts
from engine.layers import LayerChoice, resolve_layers
from engine.plan import TOKEN_OUTPUTS, LensPlan, count_kept
from engine.sizes import activation_bytes, output_bytes
from models.types import JobType

BASE_224: Final = Dimensions(
    image_size=224, patch_size=16, hidden_size=768, layers=12, attention_heads=12, mlp_size=3072
)
"""Stands in for a mapped folder whose sizes this process does not know."""
TEXT_TOKENS: Final = 64
SCORED_LABELS: Final = 100
GIGA: Final = 1e9
READ_GFLOP: Final = 0.2
"""For reading what was kept of an item and storing its scores: a millisecond of an unmeasured model."""
_FLOAT_BYTES: Final = 4
# hidden state, its normed copy, attention's three inputs and its output: what a block holds of an image
_LIVE_STATES: Final = 8
_LIVE_SCORES: Final = 4


@dataclass(frozen=True, slots=True)
class Price:
    """An estimate for one item: work in GFLOP, memory in a batch in bytes; and for the whole job's labels.

    `output_bytes` are those of an item's arrays, which a worker holds until its whole unit is stored.
    """

    item_gflop: float
    item_bytes: int
    label_gflop: float = 0.0
    output_bytes: int = 0


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
    if type_ is JobType.RESCORE:
        layers = len(chosen_layers(options["layers"], sizes.layers))
        gflop, memory = _rescore_gflop(sizes, layers, len(labels)), _rescore_bytes(sizes, layers, len(labels))
        return Price(gflop, memory, count_prompts(labels) * _tower_gflop(sizes, TEXT_TOKENS))
    if type_ is JobType.LOGIT_LENS:
        plan = plan_of(options, sizes)
        gflop += (
            _head_gflop(sizes)
            + len(plan.layers) * _folded_gflop(sizes)
            + _token_gflop(plan, sizes, len(labels))
        )
        memory += _reading_bytes(plan, sizes, min(len(labels), SCORED_LABELS))
    kept = sum(stored_bytes(type_, options, checkpoint).values())
    return Price(gflop, memory, count_prompts(labels) * _tower_gflop(sizes, TEXT_TOKENS), kept)


def plan_of(options: Mapping[str, Any], sizes: Dimensions) -> LensPlan:
    """What the options of a lens come to for a checkpoint of these sizes."""
    outputs, last = frozenset(options["outputs"]), [sizes.layers]
    # jobs of an earlier version have no word of activations
    tokens = options.get("activation_tokens")
    return LensPlan(
        depth=sizes.layers,
        grid=sizes.grid,
        layers=chosen_layers(options["layers"], sizes.layers),
        patch_layers=chosen_layers(options["patch_layers"] or last, sizes.layers)
        if outputs & set(TOKEN_OUTPUTS)
        else None,
        patch_method=options["patch_method"],
        outputs=outputs,
        activation_layers=chosen_layers(options.get("activation_layers") or last, sizes.layers)
        if "activations" in outputs
        else None,
        activation_tokens=tuple(sorted(set(tokens))) if isinstance(tokens, list) else None,
    )


def stored_bytes(type_: JobType, options: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, int]:
    """The bytes of one item's arrays in the store, by output; what rows hold, and thumbnails, not counted."""
    if type_ is not JobType.LOGIT_LENS:
        return {}
    sizes = checkpoint.dimensions or BASE_224
    return output_bytes(
        plan_of(options, sizes),
        width=sizes.hidden_size,
        heads=sizes.attention_heads,
        kept=count_kept(len(options.get("labels", ()))),
    )


def chosen_layers(layers: LayerChoice, depth: int) -> tuple[int, ...]:
    """The layers that a choice comes to, of a checkpoint with so many blocks."""
    # a list is taken as it is: of a folder that only the workers can read, the depth here is a guess
    return tuple(sorted(set(layers))) if isinstance(layers, list) else resolve_layers(layers, depth)


def _token_gflop(plan: LensPlan, sizes: Dimensions, labels: int) -> float:
    """What is read of each token at the patch layers; lengths of tokens cost next to nothing."""
    a_layer = 0.0
    if "patch" in plan.outputs:
        a_layer += _patch_gflop(sizes, plan.patch_method)
    if plan.outputs & {"probe_attention", "contribution"}:
        a_layer += _folded_gflop(sizes) / 2
    if "contribution" in plan.outputs:
        pulled = sizes.attention_heads * count_kept(labels)
        a_layer += 2 * sizes.patch_tokens * sizes.hidden_size * pulled / GIGA
    return len(plan.patch_layers or ()) * a_layer


def _reading_bytes(plan: LensPlan, sizes: Dimensions, kept: int) -> int:
    """What a lens holds of an image: vectors that wait for labels, and its arrays."""
    vectors = len(plan.outputs & {"patch", "contribution"}) * len(plan.patch_layers or ())
    arrays = sum(output_bytes(plan, width=sizes.hidden_size, heads=sizes.attention_heads, kept=kept).values())
    # hidden states once more: they are gathered, then put together
    arrays += activation_bytes(plan, sizes.hidden_size)
    return vectors * sizes.patch_tokens * sizes.hidden_size * _FLOAT_BYTES + arrays


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
    """Of each patch alone its length, by a folded triangle; or the two matrices of the head, and its MLP."""
    width = sizes.hidden_size
    if method == "value":
        return sizes.patch_tokens * width**2 / GIGA
    return sizes.patch_tokens * (4 * width**2 + 4 * width * sizes.mlp_size) / GIGA


def _rescore_gflop(sizes: Dimensions, layers: int, labels: int) -> float:
    return READ_GFLOP + 2 * layers * sizes.hidden_size * labels / GIGA


def _rescore_bytes(sizes: Dimensions, layers: int, labels: int) -> int:
    """Embeddings of layers, and what is made of their cosines: scores, their order, logits."""
    return layers * (sizes.hidden_size + _LIVE_SCORES * labels) * _FLOAT_BYTES


def _tower_bytes(sizes: Dimensions, tokens: int) -> int:
    return tokens * (_LIVE_STATES * sizes.hidden_size + sizes.mlp_size) * _FLOAT_BYTES
