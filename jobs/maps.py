"""The maps of one item that can be drawn, read back from the store."""

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.blobs import BlobStore
from jobs.errors import InvalidRequestError, NoMapsError
from jobs.objects import ObjectName, Span, read_span
from pictures.coverage import PatchGrid

Scores = NDArray[np.float32]
LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """What maps of an output show: the stored part they are made of, the unit of their scores.

    `caption` is what stands for a label where there are none; of `diverging` ones 0 is the middle.
    """

    part: str
    unit: str
    caption: str | None = None
    diverging: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "patch": Kind("scores", "cosine"),
    "contribution": Kind("patches", "cosine share", diverging=True),
    "probe_attention": Kind("array", "attention", "probe attention, mean of heads"),
    "token_norms": Kind("array", "length", "token norms"),
}
"""By output."""


@dataclass(frozen=True, slots=True)
class Maps:
    """Where the maps of an item lie, and what they are of.

    Scores are [layer, label, row, col], with one label in its place where there are none (`labels` is empty).
    The colour scale runs from `low` to `high`; `top_label` is the best at the last layer.
    """

    output: str
    object: ObjectName
    scores: Span
    thumbnail: Span
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    top_label: str
    grid: PatchGrid
    low: float
    high: float


def maps_of(
    tenant: str, job_id: uuid.UUID, payload: Mapping[str, Any] | None, output: str | None = None
) -> Maps:
    """What the payload of one of a tenant's items says of its maps of an output; None is the first it has.

    Raises:
        NoMapsError: its job did not ask for them, or it failed.
    """
    there = [name for name in KINDS if name in (payload or {})]
    if payload is None or not there:
        raise NoMapsError
    output = output or there[0]
    if output not in there:
        raise NoMapsError(f"This item has no maps of {output}; there are: {', '.join(there)}.")
    found, stored = payload[output], payload[output]["stored"]
    rows, cols = found["grid"]
    return Maps(
        output=output,
        object=ObjectName(tenant, job_id, uuid.UUID(stored["object"])),
        scores=Span(*stored[KINDS[output].part]),
        thumbnail=Span(*stored["thumbnail"]),
        layers=tuple(found["layers"]),
        labels=() if KINDS[output].caption else tuple(payload["pooled"]["labels"]),
        top_label=payload["top"]["label"],
        grid=PatchGrid(rows=rows, cols=cols, patch_size=found["patch_size"], image_size=found["image_size"]),
        low=found["scale"]["low"],
        high=found["scale"]["high"],
    )


def read_scores(blobs: BlobStore, maps: Maps) -> Scores:
    """All scores of the item, [layer, label, row, col]; of attention the mean of all heads.

    Raises:
        BlobMissingError: they were removed.
    """
    stored = read_span(blobs, maps.object, maps.scores)
    scores: Scores = np.load(io.BytesIO(stored), allow_pickle=False)
    if maps.output == "probe_attention":
        return np.asarray(scores.mean(axis=1, keepdims=True))
    return scores[:, None] if maps.output == "token_norms" else scores


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
        InvalidRequestError: there are no maps of that label, or none of any.
    """
    if not maps.labels:
        if label is not None:
            raise InvalidRequestError(f"Maps of {maps.output} are of no label: name none.", pointer=pointer)
        return 0
    name = maps.top_label if label is None else label
    if name not in maps.labels:
        shown = ", ".join(repr(each) for each in maps.labels[:LABELS_SHOWN])
        raise InvalidRequestError(f"There is no map of that label; there are: {shown}.", pointer=pointer)
    return maps.labels.index(name)
