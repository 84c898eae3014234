"""What the report of a set shows beside its summary: pictures, maps, ranks, failures, a map of the set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import FailedItem

Pictures: TypeAlias = Callable[[int], bytes | None]
"""An item's picture by its index, at any size and in any format that `pictures.decode` reads, or None.

The `get` of a mapping is one.
"""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """A label's patch lens at one layer, painted: a transparent PNG that covers the picture as a whole."""

    layer: int
    label: str
    png: bytes


@dataclass(frozen=True, slots=True)
class LateMaps:
    """Maps of late items by index, of each at most three; what they show beyond a label's mean map.

    `images` have maps and make the mean; all are painted on one scale, from nothing to `highest`.
    """

    of: Mapping[int, Sequence[LayerMap]]
    layer: int
    method: str
    images: int
    highest: float


@dataclass(frozen=True, slots=True)
class Example:
    """An item with the places of a few labels among all, 1 the best, at each of the job's layers."""

    index: int
    custom_id: str | None
    true_label: str | None
    ranks: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A sample of the set laid out in the plane, by a method that `method` names in a sentence.

    `at` [point, 2] in any unit, finite; `true_label` and `top` [point] are places in the summary's labels,
    `true_label` is UNLABELLED where it is not known.
    """

    at: NDArray[np.float64]
    true_label: NDArray[np.int32]
    top: NDArray[np.int32]
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class LabelPlate:
    """Where a label is read beyond where it is read anyway: `difference` [row, col] of two mean maps."""

    label: str
    difference: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Supplement:
    """What a summary does not hold; whatever is left out is missing from the page, which then says so.

    `failed` may be all failed items or the first of them. `item_url` and `file_url` give the address of an
    item by its index and of an exported file by its name: http, https, or relative to the page.
    """

    failed: Sequence[FailedItem] = ()
    examples: Sequence[Example] = ()
    maps: LateMaps | None = None
    points: Points | None = None
    label_maps: Sequence[LabelPlate] = ()
    item_url: Callable[[int], str] | None = None
    file_url: Callable[[str], str] | None = None
