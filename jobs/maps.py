"""The patch maps of one item, read back from the store."""

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.blobs import BlobStore
from jobs.errors import InvalidRequestError, NoMapsError
from jobs.objects import ObjectName, Span, read_span
from pictures.coverage import PatchGrid

Scores = NDArray[np.float32]
LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Maps:
    """Where the maps of an item lie, and what they are of.

    Scores are cosines [layer, label, row, col]; the colour scale runs from `low`, the median of them all, to
    `high`, the greatest; `top_label` is the best at the last layer.
    """

    object: ObjectName
    scores: Span
    thumbnail: Span
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    top_label: str
    grid: PatchGrid
    low: float
    high: float


def maps_of(tenant: str, job_id: uuid.UUID, payload: Mapping[str, Any] | None) -> Maps:
    """What the payload of one of a tenant's items says of its maps.

    Raises:
        NoMapsError: its job did not ask for any, or it failed.
    """
    if payload is None or "patch" not in payload:
        raise NoMapsError
    patch, stored = payload["patch"], payload["patch"]["stored"]
    rows, cols = patch["grid"]
    return Maps(
        object=ObjectName(tenant, job_id, uuid.UUID(stored["object"])),
        scores=Span(*stored["scores"]),
        thumbnail=Span(*stored["thumbnail"]),
        layers=tuple(patch["layers"]),
        labels=tuple(payload["pooled"]["labels"]),
        top_label=payload["top"]["label"],
        grid=PatchGrid(rows=rows, cols=cols, patch_size=patch["patch_size"], image_size=patch["image_size"]),
        low=patch["scale"]["low"],
        high=patch["scale"]["high"],
    )


def read_scores(blobs: BlobStore, maps: Maps) -> Scores:
    """All scores of the item, [layer, label, row, col].

    Raises:
        BlobMissingError: they were removed.
    """
    stored = read_span(blobs, maps.object, maps.scores)
    scores: Scores = np.load(io.BytesIO(stored), allow_pickle=False)
    return scores


def read_thumbnail(blobs: BlobStore, maps: Maps) -> bytes:
    """The small JPEG of the picture, upright.

    Raises:
        BlobMissingError: it was removed.
    """
    return read_span(blobs, maps.object, maps.thumbnail)


def layer_axis(maps: Maps, layer: int | None) -> int:
    """Where a layer stands on the scores' first axis; the last one when None.

    Raises:
        InvalidRequestError: there are no maps of that layer.
    """
    if layer is None:
        return len(maps.layers) - 1
    if layer not in maps.layers:
        there = ", ".join(map(str, maps.layers))
        raise InvalidRequestError(f"There is no map of layer {layer}; there are: {there}.", pointer="/layer")
    return maps.layers.index(layer)


def label_axis(maps: Maps, label: str | None, *, pointer: str = "/label") -> int:
    """Where a label stands on the scores' second axis; the one on top at the last layer when None.

    Raises:
        InvalidRequestError: there are no maps of that label.
    """
    name = maps.top_label if label is None else label
    if name not in maps.labels:
        shown = ", ".join(repr(each) for each in maps.labels[:LABELS_SHOWN])
        raise InvalidRequestError(f"There is no map of that label; there are: {shown}.", pointer=pointer)
    return maps.labels.index(name)
