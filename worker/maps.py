"""Patch maps on their way to the store: one object a unit, and in each result where its part lies."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.config import EngineConfig
from engine.lens import PatchLens
from jobs.blobs import BlobStore
from jobs.objects import ObjectName, Span, put_object
from worker.decoding import DecodedItem


def store_maps(
    blobs: BlobStore,
    name: ObjectName,
    decoded: Sequence[DecodedItem],
    patch: PatchLens,
    config: EngineConfig,
) -> list[dict[str, Any]]:
    """Store scores and thumbnails of a unit's pictures; returns what each picture's result says of them.

    Raises:
        BlobStoreFullError: the disk is full: the unit is worth another try later.
    """
    parts: list[bytes] = []
    for found, scores in zip(decoded, patch.cosine, strict=True):
        assert found.thumbnail is not None
        parts += [_npy(scores), found.thumbnail]
    spans = put_object(blobs, name, parts)
    return [
        {
            "layers": list(patch.layers),
            "grid": list(patch.grid),
            "patch_size": config.patch_size,
            "image_size": config.img_size,
            "method": patch.method,
            # one for all layers and labels of a picture, so that its maps can be compared; from the median
            # up, because a lens asks where a label is read, and most patches say nothing of most labels
            "scale": {"low": np.median(scores), "high": scores.max()},
            "stored": {
                "object": name.token.hex,
                "scores": _where(score_span),
                "thumbnail": _where(small_span),
            },
        }
        for scores, score_span, small_span in zip(patch.cosine, spans[::2], spans[1::2], strict=True)
    ]


def _npy(scores: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    file = io.BytesIO()
    np.save(file, scores, allow_pickle=False)
    return file.getvalue()


def _where(span: Span) -> list[int]:
    return [span.offset, span.length]
