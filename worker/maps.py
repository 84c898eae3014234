"""Patch maps on their way to the store: one object a job and lease, and in results where their parts lie."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.config import EngineConfig
from engine.lens import PatchLens
from jobs.blobs import BlobStore
from jobs.objects import ObjectName, Span, put_object
from worker.decoding import DecodedItem

MappedPicture = tuple[DecodedItem, PatchLens, int]
"""A picture, the patch lens of its batch, and its row in it."""


def store_maps(
    blobs: BlobStore, name: ObjectName, pictures: Sequence[MappedPicture], config: EngineConfig
) -> list[dict[str, Any]]:
    """Store scores and thumbnails of a job's pictures; returns what each picture's result says of them.

    Raises:
        BlobStoreFullError: the disk is full: the work is worth another try later.
    """
    parts: list[bytes] = []
    for found, patch, row in pictures:
        assert found.thumbnail is not None
        parts += [_npy(patch.cosine[row]), found.thumbnail]
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
            "scale": {"low": np.median(patch.cosine[row]), "high": patch.cosine[row].max()},
            "stored": {
                "object": name.token.hex,
                "scores": _where(score_span),
                "thumbnail": _where(small_span),
            },
        }
        for (_, patch, row), score_span, small_span in zip(pictures, spans[::2], spans[1::2], strict=True)
    ]


def _npy(scores: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    file = io.BytesIO()
    np.save(file, scores, allow_pickle=False)
    return file.getvalue()


def _where(span: Span) -> list[int]:
    return [span.offset, span.length]
