"""Maps of patches as a client asks for them: numbers, a heatmap, or an overlay on the stored thumbnail."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from jobs.blobs import BlobStore
from jobs.errors import InvalidRequestError
from jobs.maps import KINDS, Maps, Scores, label_axis, layer_axis, read_scores, read_thumbnail
from pictures.colours import Scale
from pictures.heatmap import display_size, heatmap, overlay
from pictures.legend import Legend, draw_legend
from pictures.lettering import caption
from pictures.png import to_png
from pictures.thumbnail import open_thumbnail

VERSION: Final = 1
"""Part of every drawing's ETag: to be raised when the same numbers are drawn in another way."""
MAX_JSON_SCORES: Final = 250_000
"""Numbers in a JSON answer: some 3 MB of text."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which map to draw, in which colours, and how large: the longer side has `side` pixels."""

    layer: int | None
    label: str | None
    contrast: str | None
    low: float | None
    high: float | None
    side: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """One map [row, col], and what its legend says."""

    scores: NDArray[np.float32]
    scale: Scale
    layer: int
    label: str
    unit: str
    beyond: tuple[bool, bool]


def scores_npy(blobs: BlobStore, maps: Maps, layer: int | None, label: str | None) -> bytes:
    """The scores [layer, label, row, col] as a .npy file, float32."""
    file = io.BytesIO()
    np.save(file, _narrowed(blobs, maps, layer, label), allow_pickle=False)
    return file.getvalue()


def scores_json(blobs: BlobStore, maps: Maps, layer: int | None, label: str | None) -> bytes:
    """The scores [layer, label, row, col] as JSON, with the names of the first two axes.

    Raises:
        InvalidRequestError: too many for JSON.
    """
    scores = _narrowed(blobs, maps, layer, label)
    if scores.size > MAX_JSON_SCORES:
        raise InvalidRequestError(
            f"{scores.size} numbers are too many for JSON, which takes {MAX_JSON_SCORES}: ask for"
            " `format=npy`, or for one `layer` or `label`.",
            pointer="/format",
        )
    body = {
        "output": "patch",
        "unit": "cosine",
        "layers": maps.layers if layer is None else [layer],
        "labels": maps.labels if label is None else [label],
        "grid": [maps.grid.rows, maps.grid.cols],
        "scores": scores,
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def heatmap_png(blobs: BlobStore, maps: Maps, choice: Choice) -> bytes:
    """The map alone, to be laid over the picture: opaque where patches cover it, else transparent."""
    chosen = _choose(blobs, maps, choice)
    with open_thumbnail(read_thumbnail(blobs, maps)) as small:
        size = display_size(*small.size, choice.side)
    return to_png(heatmap(chosen.scores, maps.grid, size, chosen.scale))


def overlay_png(blobs: BlobStore, maps: Maps, choice: Choice, *, opacity: float, legend: bool) -> bytes:
    """The picture under the map, with the legend below it unless that is not wanted."""
    chosen = _choose(blobs, maps, choice)
    picture = open_thumbnail(read_thumbnail(blobs, maps))
    drawn = overlay(picture, chosen.scores, maps.grid, chosen.scale, opacity, choice.side)
    if legend:
        words = Legend(chosen.scale, chosen.unit, f"layer {chosen.layer}", chosen.label, chosen.beyond)
        drawn = draw_legend(drawn, words)
    return to_png(drawn)


def _narrowed(blobs: BlobStore, maps: Maps, layer: int | None, label: str | None) -> Scores:
    layers = slice(None) if layer is None else [layer_axis(maps, layer)]
    labels = slice(None) if label is None else [label_axis(maps, label)]
    return read_scores(blobs, maps)[layers][:, labels]


def _choose(blobs: BlobStore, maps: Maps, choice: Choice) -> Chosen:
    layer, label = layer_axis(maps, choice.layer), label_axis(maps, choice.label)
    scores = read_scores(blobs, maps)
    kind = KINDS[maps.output]
    name = kind.caption or caption(maps.labels[label], label)
    if choice.contrast is None:
        shown, unit = scores[:, label], kind.unit
        scale = _scale(maps, choice)
    else:
        if choice.low is not None or choice.high is not None:
            raise InvalidRequestError(
                "A contrast has 0 in the middle of its scale: give no `low` and `high`.", pointer="/contrast"
            )
        other = label_axis(maps, choice.contrast, pointer="/contrast")
        shown, unit = scores[:, label] - scores[:, other], f"difference of {kind.unit}s"
        scale = Scale.spanning(shown, diverging=True)
        name = f"{name} - {caption(maps.labels[other], other)}"
    drawn = shown[layer]
    # in Python's floats: an end that a client gives need not fit into float32
    beyond = float(drawn.min()) < scale.low, float(drawn.max()) > scale.high
    return Chosen(drawn, scale, maps.layers[layer], name, unit, beyond)


def _scale(maps: Maps, choice: Choice) -> Scale:
    if choice.low is None and choice.high is None:
        return Scale(maps.low, maps.high, diverging=KINDS[maps.output].diverging)
    low = maps.low if choice.low is None else choice.low
    high = maps.high if choice.high is None else choice.high
    if low >= high:
        raise InvalidRequestError(f"A scale from {low:g} to {high:g} tells no scores apart.", pointer="/low")
    return Scale(low, high)
