"""What is stored of a result: the shapes that the API hands out, from the engine's arrays."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.labels import is_fitted
from engine.lens import Lens, Uncalibrated
from jobs.filling import TABLE
from jobs.leases import ItemResult
from worker.decoding import item_error

NOT_FINITE = item_error(
    "result-not-finite", "The model gave infinite or undefined numbers for this item.", retryable=False
)


Floats = NDArray[np.float32]


class Shown(Protocol):
    """An item and what its result says of the picture: one that was decoded, or that a lens has seen."""

    @property
    def item(self) -> dict[str, Any]:
        """As it was submitted."""

    @property
    def width(self) -> int:
        """In pixels, upright."""

    @property
    def height(self) -> int:
        """In pixels, upright."""

    @property
    def frame(self) -> dict[str, int | None] | None:
        """Which frame was read and of how many; None for a picture that has one alone."""


def lens_payloads(
    decoded: Sequence[Shown],
    lens: Lens,
    outputs: Mapping[int, dict[str, Any]],
    table: uuid.UUID | None = None,
) -> list[ItemResult]:
    """One result a picture: pooled scores [layer, label], what is on top at each layer, where arrays lie.

    `outputs` say the last, by row; a picture whose numbers are not all finite fails, and has none. What a
    `table` has, which the token of a lease names, a result leaves to that; see `jobs.filling`.
    """
    return [
        ItemResult(found.item, payload=_lens_payload(found, lens, row, outputs.get(row, {}), table))
        if is_finite(lens, row)
        else ItemResult(found.item, error=NOT_FINITE)
        for row, found in enumerate(decoded)
    ]


def is_finite(lens: Lens, row: int) -> bool:
    """Whether all that is stored of a picture are numbers: nothing of it is stored else."""
    found: list[np.ndarray[Any, Any]] = [lens.cosine[row], lens.final_logit[row]]
    if lens.patch is not None:
        found.append(lens.patch.cosine[row])
    found += [each.values[row] for each in (lens.probe_attention, lens.token_norms) if each is not None]
    if lens.contribution is not None:
        parts = lens.contribution
        found += [parts.patches[row], parts.bias[row], parts.mlp[row]]
    if lens.embeddings is not None:
        found.append(lens.embeddings[row])
    if lens.activations is not None:
        found.append(lens.activations.values[row])
    return all(bool(np.isfinite(numbers).all()) for numbers in found)


def embeddings_of(vectors: torch.Tensor, *, normalize: bool) -> Floats:
    """Embeddings [item, width] as they are handed out: of norm 1 when normalised."""
    wide = vectors.to(torch.float32)
    if normalize:
        wide = torch.nn.functional.normalize(wide, dim=-1)
    return np.ascontiguousarray(wide.numpy())


def embedding_payloads(
    items: Sequence[dict[str, Any]], vectors: Floats, table: uuid.UUID | None = None
) -> list[ItemResult]:
    """One result an item: its embedding [width], or the `table` that has it."""
    return [_embedding_payload(item, row, table) for item, row in zip(items, vectors, strict=True)]


def with_frames(decoded: Sequence[Shown], results: Sequence[ItemResult]) -> list[ItemResult]:
    """The results, each saying of a picture with several frames which of them was read."""
    return [
        replace(result, payload=result.payload | {"frame": found.frame})
        if found.frame is not None and result.payload is not None
        else result
        for found, result in zip(decoded, results, strict=True)
    ]


def _lens_payload(
    found: Shown, lens: Lens, row: int, outputs: dict[str, Any], table: uuid.UUID | None
) -> dict[str, Any]:
    sizes = {"width": found.width, "height": found.height}
    label = lens.labels[lens.final_top[row]]
    if table is not None:
        # beside arrays that are kept, the sizes too: a rescore takes both from the row
        return {"top": {"label": label}, TABLE: table.hex, **({**sizes, **outputs} if outputs else {})}
    top = {
        "label": label,
        "tied": bool(lens.tied[row]),
        "margin": None if lens.top_margin is None else lens.top_margin[row],
        "settle_layer": None if lens.settle_layer is None else int(lens.settle_layer[row]),
        "label_by_layer": [lens.labels[place] for place in lens.top[row]],
    }
    return {**sizes, "pooled": _pooled(lens, row), "top": top, **outputs}


def _pooled(lens: Lens, row: int) -> dict[str, Any]:
    scored = [int(label) for label in lens.kept[row]]
    final = {
        "logit": _fitted(lens.final_logit[row], scored, lens),
        "match_probability": _fitted(lens.final_match_probability[row], scored, lens),
    }
    if lens.final_softmax is not None:
        final["softmax"] = _fitted(lens.final_softmax[row], scored, lens)
    pooled: dict[str, Any] = {
        "layers": list(lens.layers),
        "labels": [lens.labels[label] for label in scored],
        "cosine": _kept(lens.cosine[row], scored),
        "rank": np.ascontiguousarray(lens.rank[row]),
        "final": final,
    }
    if lens.uncalibrated is not None:
        pooled["uncalibrated"] = _uncalibrated(lens.uncalibrated, row, scored, lens)
    return pooled


def _uncalibrated(numbers: Uncalibrated, row: int, scored: list[int], lens: Lens) -> dict[str, Any]:
    found = {
        "logit": _fitted(numbers.logit[row], scored, lens),
        "match_probability": _fitted(numbers.match_probability[row], scored, lens),
    }
    if numbers.softmax is not None:
        found["softmax"] = _fitted(numbers.softmax[row], scored, lens)
    return found


def _kept(scores: np.ndarray[Any, Any], scored: list[int]) -> np.ndarray[Any, Any]:
    """Of scores [..., label] those that are handed out."""
    return np.ascontiguousarray(scores[..., scored])


def _fitted(scores: np.ndarray[Any, Any], scored: list[int], lens: Lens) -> Any:
    """Of scores [..., label] those that are handed out; None of labels of which they would mean nothing."""
    unfitted = {place for place, label in enumerate(scored) if not is_fitted(lens.prompts[label])}
    kept = _kept(scores, scored)
    return _without(kept, unfitted) if unfitted else kept


def _without(numbers: np.ndarray[Any, Any], places: set[int]) -> list[Any]:
    # numpy's own numbers stay: float32 is written in fewer digits
    if numbers.ndim > 1:
        return [_without(row, places) for row in numbers]
    return [None if place in places else number for place, number in enumerate(numbers)]


def _embedding_payload(
    item: dict[str, Any], vector: np.ndarray[Any, np.dtype[np.float32]], table: uuid.UUID | None
) -> ItemResult:
    if not np.isfinite(vector).all():
        return ItemResult(item, error=NOT_FINITE)
    said = {"embedding": vector} if table is None else {TABLE: table.hex}
    return ItemResult(item, payload={"dimensions": len(vector), **said})
