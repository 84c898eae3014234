"""Dense plots as masks: PNGs of opacity alone, which the page fills with its own inks, light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from analysis.set_report.facts import Points
from analysis.set_report.stamps import data_url
from analysis.sets.facts import UNLABELLED
from analysis.sets.schema import ClassSummary
from pictures.png import to_png

MOST_CELLS: Final = 500
"""Rows or columns that a page can show apart; of more the fullest of neighbours stands for all."""
GAMMA: Final = 0.5
FAINTEST: Final = 0.25
"""What there is at all can be seen."""
MAP_SIDE: Final = 720
FINER: Final = 2
MARGIN: Final = 0.04
NAMES_SHOWN: Final = 40
NAME_GAP: Final = (0.11, 0.032)
"""Names nearer than this, in parts of the plot's sides, run into each other: the larger class has one."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A PNG of opacity as a URL, and the name of the ink that fills it."""

    ink: str
    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a class lies: its images, the median of their points in parts of the plot from the top left."""

    label: str
    images: int
    right: int
    x: float
    y: float
    named: bool


def confusion_masks(matrix: Sequence[Sequence[int]]) -> list[Mask]:
    """A matrix [true, top] as shares of its rows: the diagonal in the ink of true, the rest of false."""
    counts = np.asarray(matrix, dtype=np.float64)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    diagonal = np.eye(len(shares), dtype=bool)
    return [
        Mask("true", _mask(_pool(np.where(diagonal, shares, 0)))),
        Mask("false", _mask(_pool(np.where(diagonal, 0, shares)))),
    ]


def class_mask(classes: Sequence[ClassSummary]) -> Mask:
    """Recall of classes, a row each, by layer, a column each."""
    shares = np.asarray([each.recall_by_layer for each in classes], dtype=np.float64)
    return Mask("true", opacity(shares))


def point_masks(points: Points) -> list[Mask]:
    """The points by whether their top label is true, a mask each; of kinds that there are."""
    at = _unit(points.at)
    unknown = points.true_label == UNLABELLED
    right = ~unknown & (points.true_label == points.top)
    kinds = (("unknown", unknown), ("true", right), ("false", ~unknown & ~right))
    return [Mask(name, _dots(at[kind], len(at))) for name, kind in kinds if kind.any()]


def class_places(points: Points, labels: Sequence[str]) -> list[Place]:
    """Each class that the points show, the largest first; names are kept apart."""
    at, places = _unit(points.at), []
    named: list[tuple[float, float]] = []
    images = np.bincount(points.true_label[points.true_label != UNLABELLED], minlength=len(labels))
    for label in sorted(np.flatnonzero(images).tolist(), key=lambda label: (-images[label], label)):
        own = points.true_label == label
        x, y = np.median(at[own], axis=0).tolist()
        apart = all(abs(x - other) > NAME_GAP[0] or abs(y - beside) > NAME_GAP[1] for other, beside in named)
        if free := apart and len(named) < NAMES_SHOWN:
            named.append((x, y))
        right = int((points.top[own] == label).sum())
        places.append(Place(labels[label], int(images[label]), right, x, y, free))
    return places


def opacity(shares: NDArray[np.floating[Any]]) -> str:
    """Shares of 0..1 as they are: what is twice as much is twice as opaque."""
    return _mask(np.asarray(shares, dtype=np.float64), gamma=1, faintest=0)


def _unit(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions in 0..1 with one unit for both axes, y downwards, a margin around them."""
    low, high = at.min(axis=0), at.max(axis=0)
    span = float((high - low).max()) or 1.0
    centred = (at - (low + high) / 2) / span * [1, -1]
    inside: NDArray[np.float64] = 0.5 + centred * (1 - 2 * MARGIN)
    return inside


def _dots(at: NDArray[np.float64], among: int) -> str:
    """Dots whose size falls with their number, so that 20,000 do not make one blot."""
    side = MAP_SIDE * FINER
    radius = FINER * float(np.clip(90 / np.sqrt(among), 1.1, 3.2))
    sheet = Image.new("L", (side, side))
    pen = ImageDraw.Draw(sheet)
    for x, y in (at * (side - 1)).tolist():
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=200)
    return _png(np.asarray(sheet.resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)))


def _pool(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest of each block, so many rows and columns to a block that the matrix fits."""
    step = -(-len(shares) // MOST_CELLS)
    edges = np.arange(0, len(shares), step)
    return np.maximum.reduceat(np.maximum.reduceat(shares, edges, axis=0), edges, axis=1)


def _mask(shares: NDArray[np.float64], gamma: float = GAMMA, faintest: float = FAINTEST) -> str:
    ink = np.where(shares > 0, faintest + (1 - faintest) * shares**gamma, 0)
    return _png(np.rint(255 * ink).astype(np.uint8))


def _png(ink: NDArray[np.uint8]) -> str:
    alpha = Image.fromarray(ink)
    return data_url("image/png", to_png(Image.merge("LA", (Image.new("L", alpha.size), alpha))))
