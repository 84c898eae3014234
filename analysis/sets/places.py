"""What a version says of its items, and which of a job's labels are true of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.sets.facts import UNLABELLED, Truths


@dataclass(frozen=True, slots=True)
class Place:
    """What the version says of one item."""

    custom_id: str | None
    content: int
    true_label: str | None
    true_labels: tuple[str, ...]


def one_truth(place: Place, columns: Mapping[str, int], *, several: bool) -> int:
    """The label that is true of an item, of a job's by name; UNLABELLED where `several` may be."""
    return UNLABELLED if several else columns.get(place.true_label or "", UNLABELLED)


def truths_of(place: Place, columns: Mapping[str, int]) -> tuple[int, ...]:
    """All labels that are true of an item, whether it was given one or several."""
    named = place.true_labels or (place.true_label or "",)
    return tuple(columns[label] for label in named if label in columns)


def gather_truths(places: Sequence[Place], columns: Mapping[str, int]) -> Truths:
    """Those of all items."""
    found = [truths_of(place, columns) for place in places]
    return Truths(
        ends=np.cumsum([0, *map(len, found)], dtype=np.int64),
        labels=np.array([label for labels in found for label in labels], dtype=np.int32),
    )
