"""The patch lens over its picture: one photograph, and tiny transparent maps that the page lays over it."""

import base64
from dataclasses import dataclass

import numpy as np

from analysis.facts import Patches, Reading
from analysis.wording import signed
from pictures.colours import Scale
from pictures.coverage import PatchGrid
from pictures.decode import decode
from pictures.errors import PictureError
from pictures.heatmap import display_size, heatmap
from pictures.png import to_png
from pictures.thumbnail import thumbnail

PHOTO_SIDE = 400
MAP_SIDE = 216
"""Enough for every patch of a 27 x 27 grid to have 8 pixels; the page scales maps without smoothing."""
TOP_MAPS = 3
LEGEND_STEPS = 128
LEGEND_SIZE = (256, 1)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One map: `url` is a PNG the size of the picture, `said` its extremes in words."""

    layer: int
    url: str
    said: str


@dataclass(frozen=True, slots=True)
class OverlayRow:
    """The maps of one label, a layer each."""

    label: str
    overlays: tuple[Overlay, ...]


def photo_url(data: bytes | None) -> str | None:
    """A picture as a small JPEG in a data URL, or None without one that can be read.

    Always written anew: what else a file holds (where it was taken, a camera's serial number) stays behind.
    """
    if data is None:
        return None
    try:
        return _url("image/jpeg", thumbnail(decode(data), PHOTO_SIDE))
    except PictureError:
        return None


def overlay_rows(reading: Reading, patches: Patches) -> list[OverlayRow]:
    """The maps of the best labels at the last layer, all on the one scale of the picture."""
    mapped = [label for label in reading.ranked if reading.labels[label] in patches.labels]
    return [
        OverlayRow(
            label=reading.labels[label],
            overlays=tuple(
                _overlay(reading, patches, layer, patches.labels.index(reading.labels[label]))
                for layer in range(len(patches.layers))
            ),
        )
        for label in mapped[:TOP_MAPS]
    ]


def legend_url(low: float, high: float) -> str:
    """The colour scale from low (left) to high, painted by what paints the maps."""
    ramp = np.linspace(low, high, LEGEND_STEPS, dtype=np.float32)
    grid = PatchGrid(LEGEND_STEPS, LEGEND_STEPS, 1, LEGEND_STEPS)
    return _paint(np.tile(ramp, (LEGEND_STEPS, 1)), grid, LEGEND_SIZE, low, high)


def _overlay(reading: Reading, patches: Patches, layer: int, label: int) -> Overlay:
    scores = patches.maps[layer, label]
    row, col = np.unravel_index(int(scores.argmax()), scores.shape)
    return Overlay(
        layer=patches.layers[layer],
        url=_paint(
            scores,
            patches.grid,
            display_size(reading.width, reading.height, MAP_SIDE),
            patches.low,
            patches.high,
        ),
        said=(
            f"Layer {patches.layers[layer]}: highest {signed(float(scores.max()))} at row {row + 1},"
            f" column {col + 1}; lowest {signed(float(scores.min()))}."
        ),
    )


def _paint(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    grid: PatchGrid,
    size: tuple[int, int],
    low: float,
    high: float,
) -> str:
    return _url("image/png", to_png(heatmap(scores, grid, size, Scale(low, high))))


def _url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
