"""What is stored of a result: the shapes that the API hands out, from the engine's arrays."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engine.lens import Lens
from jobs.leases import ItemResult
from worker.decoding import DecodedItem, item_error

NOT_FINITE = item_error(
    "result-not-finite", "The model gave infinite or undefined numbers for this item.", retryable=False
)


def lens_payloads(
    decoded: Sequence[DecodedItem], lens: Lens, maps: Sequence[dict[str, Any]] | None
) -> list[ItemResult]:
    """One result a picture: pooled scores [layer, label], what is on top at each layer, where maps lie."""
    return [_lens_payload(found, lens, row, maps[row] if maps else None) for row, found in enumerate(decoded)]


def embedding_payloads(
    items: Sequence[dict[str, Any]], vectors: torch.Tensor, *, normalize: bool
) -> list[ItemResult]:
    """One result an item: its embedding [width], of norm 1 when normalised."""
    wide = vectors.to(torch.float32)
    if normalize:
        wide = torch.nn.functional.normalize(wide, dim=-1)
    return [_embedding_payload(item, row) for item, row in zip(items, wide.numpy(), strict=True)]


def with_frames(decoded: Sequence[DecodedItem], results: Sequence[ItemResult]) -> list[ItemResult]:
    """The results, each saying of a picture with several frames which of them was read."""
    return [
        replace(result, payload=result.payload | {"frame": found.frame})
        if found.frame is not None and result.payload is not None
        else result
        for found, result in zip(decoded, results, strict=True)
    ]


def _lens_payload(found: DecodedItem, lens: Lens, row: int, maps: dict[str, Any] | None) -> ItemResult:
    scores = [lens.cosine[row], lens.final_logit[row]]
    if lens.patch is not None:
        scores.append(lens.patch.cosine[row])
    if not all(np.isfinite(numbers).all() for numbers in scores):
        return ItemResult(found.item, error=NOT_FINITE)
    scored = [int(label) for label in lens.kept[row]]
    names = lens.labels
    top = lens.top[row]
    payload = {
        "width": found.width,
        "height": found.height,
        "pooled": {
            "layers": list(lens.layers),
            "labels": [names[label] for label in scored],
            "cosine": np.ascontiguousarray(lens.cosine[row][:, scored]),
            "final": {
                "logit": np.ascontiguousarray(lens.final_logit[row][scored]),
                "match_probability": np.ascontiguousarray(lens.final_match_probability[row][scored]),
            },
        },
        "top": {
            "label": names[lens.final_top[row]],
            "tied": bool(lens.tied[row]),
            "margin": None if lens.top_margin is None else lens.top_margin[row],
            "settle_layer": None if lens.settle_layer is None else int(lens.settle_layer[row]),
            "label_by_layer": [names[label] for label in top],
        },
    }
    if maps is not None:
        payload["patch"] = maps
    return ItemResult(found.item, payload=payload)


def _embedding_payload(item: dict[str, Any], vector: np.ndarray[Any, np.dtype[np.float32]]) -> ItemResult:
    if not np.isfinite(vector).all():
        return ItemResult(item, error=NOT_FINITE)
    return ItemResult(item, payload={"dimensions": len(vector), "embedding": np.ascontiguousarray(vector)})
