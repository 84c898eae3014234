"""One batch on its way through the tower, and what a lens reads of it layer by layer."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from engine.cosine import cosines
from engine.errors import LensUnsoundError
from engine.folded import FoldedHead
from engine.lens import Scores, keep_labels
from engine.plan import LensPlan
from engine.residual import read_head
from engine.shapes import Hidden, LayerEmbeddings, LayerVectors, TextEmbeddings
from engine.tokens import TokenMaps, TokenReader

PATCH_BYTES: Final = 512 * 2**20
"""The patch embeddings of one batch may take so much of the memory until they are scored."""

CUDA_PATCH_BYTES: Final = 4 * 2**30
"""The same on a GPU, which a handful of pictures leaves idle."""

MAX_DEVIATION: Final = 1e-5
"""So far may a cosine be from that of the checkpoint's own head, both in float32: law 2."""

_FLOAT32_BYTES: Final = 4


def most_images(plan: LensPlan, width: int, device: str = "cpu") -> int | None:
    """How many pictures a batch may hold by PATCH_BYTES, one at least; None where no token is read.

    On "cuda" it is a power of two, since batches are filled up to one there.
    """
    if plan.patch_layers is None:
        return None
    rows, cols = plan.grid
    kept = max(1, len(plan.outputs & {"patch", "contribution"}))
    image_bytes = kept * len(plan.patch_layers) * rows * cols * width * _FLOAT32_BYTES
    if device == "cuda":
        return 1 << (max(1, CUDA_PATCH_BYTES // image_bytes).bit_length() - 1)
    return max(1, PATCH_BYTES // image_bytes)


@torch.no_grad()
def read_batch(
    vision: Any, folded: FoldedHead, states: Iterable[Hidden], unit: TextEmbeddings, plan: LensPlan
) -> Scores:
    """The scores of one batch against the labels of `unit` [label, width], of norm 1.

    Layer L is read by the checkpoint's own head, the layers before it by the folded one, which has to agree
    with it on this batch: at L it is held against it.

    `states` are the batch's hidden states 0..L, each let go when it was read. Patch embeddings wait, as unit
    vectors, until layer L has said which labels are kept: scores of all labels could be far larger.

    Raises:
        LensUnsoundError: the two heads differ by more than MAX_DEVIATION.
    """
    mixed: list[Tensor] = []
    tokens = TokenReader(vision, folded, plan)
    for layer, hidden in enumerate(states):
        if layer in (plan.patch_layers or ()):
            tokens.take(hidden)
        if layer in (plan.activation_layers or ()):
            tokens.keep(hidden)
        if layer in plan.layers and layer < plan.depth:
            mixed.append(folded.mix(hidden))
    # what came last is layer L
    pooled = read_head(vision, hidden)
    cosine = cosines(pooled, unit)
    mixed.append(folded.mix(hidden))
    embeddings = list(torch.split(folded.finish(torch.cat(mixed)), len(hidden)))
    deviation = _check(cosines(embeddings.pop(), unit), cosine)
    if plan.depth in plan.layers:
        embeddings.append(pooled)
    final = cosine.cpu().numpy()
    kept = keep_labels(final)
    return Scores(
        cosine=torch.stack([cosines(each, unit) for each in embeddings], dim=1).cpu().numpy(),
        final=final,
        pooled=pooled.float().cpu().numpy(),
        kept=kept,
        tokens=tokens.score(unit, kept),
        embeddings=_keep(embeddings) if "embeddings" in plan.outputs else None,
        head_deviation=deviation,
    )


def score_embeddings(embeddings: LayerEmbeddings, unit: TextEmbeddings) -> Scores:
    """The scores of embeddings of layers, the last of which is L, that were read before."""
    cosine = cosines(embeddings, unit).numpy()
    return Scores(
        cosine=cosine,
        final=cosine[:, -1],
        pooled=embeddings[:, -1].numpy(),
        kept=keep_labels(cosine[:, -1]),
        tokens=TokenMaps(),
        embeddings=embeddings.numpy(),
        head_deviation=None,
    )


def _keep(embeddings: Sequence[Tensor]) -> LayerVectors:
    return torch.stack([each.float() for each in embeddings], dim=1).cpu().numpy()


def _check(ours: Tensor, own: Tensor) -> float:
    deviation = float((ours - own).abs().max())
    # not the other way round: NaN compares as false
    if not deviation <= MAX_DEVIATION and bool(own.isfinite().all()):
        raise LensUnsoundError(
            f"The folded head differs from the checkpoint's own by {deviation:.2g} in a cosine,"
            f" {MAX_DEVIATION:g} is allowed: no score of this batch can be trusted. Please report it, with"
            " the checkpoint's name."
        )
    return deviation
