"""The different images of a set: what numbers are counted over, and how they are sampled."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.schema_items import Named

SLICE_BYTES = 1 << 24


class Draw(IntEnum):
    """What chance is needed for: each has its own stream, so that none changes another's numbers."""

    BOOTSTRAP = 1
    AUROC = 2
    FOLDS = 3
    THRESHOLD = 4
    OUTLIERS = 5
    CANDIDATES = 6
    PROBE = 7
    COMPARISON = 8
    DRIFT = 9
    PERMUTATIONS = 10
    AXES = 11
    CLASSES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images with different bytes.

    - `rows` [image]: the row that stands for each, ascending: the first labelled one of those with its bytes,
      else the first.
    - `of_row` [row]: the image of each row; -1 of rows whose image is left out.
    - `true_label` [image]: its label's place, or UNLABELLED.
    """

    rows: NDArray[np.int64]
    of_row: NDArray[np.int64]
    true_label: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The images whose true label is known."""
        return np.flatnonzero(self.true_label != UNLABELLED)


def pick_images(facts: SetFacts) -> Images:
    """All images of the set."""
    order = np.lexsort((~facts.known, facts.contents))
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.diff(facts.contents[order]) != 0
    return _gather(facts, order[first], order, np.cumsum(first) - 1)


def leave_out(images: Images, kept: NDArray[np.bool_]) -> Images:
    """Only those images that are `kept` [image]."""
    place = np.where(kept, np.cumsum(kept) - 1, -1)
    # -1 picks the entry appended, which is -1 too
    of_row = np.append(place, -1)[images.of_row]
    return Images(images.rows[kept], of_row, images.true_label[kept])


def told_images(facts: SetFacts, images: Images) -> NDArray[np.int64]:
    """The images whose truth is known: one label, or several."""
    return np.flatnonzero(facts.known[images.rows])


def truths_of(facts: SetFacts, images: Images, among: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which labels are true of images whose truth is known: [image, label]."""
    rows = images.rows[among]
    if facts.truths is None:
        return np.asarray(facts.true_label[rows, None] == np.arange(len(facts.labels)))
    return facts.truths.of(rows, len(facts.labels))


def generator(seed: int, draw: Draw) -> np.random.Generator:
    """Chance that the seed and the purpose decide."""
    return np.random.default_rng([seed % 2**64, draw])


def random_state(seed: int, draw: Draw) -> int:
    """The same for scikit-learn, which takes 32 bits."""
    return int(generator(seed, draw).integers(2**32))


def sample(among: NDArray[np.int64], most: int, seed: int, draw: Draw) -> NDArray[np.int64]:
    """At most so many of them, drawn without replacement, in ascending order."""
    if len(among) <= most:
        return among
    return np.sort(generator(seed, draw).choice(among, most, replace=False))


def slices(rows: int, row_bytes: int) -> Iterator[slice]:
    """Consecutive slices of about 16 MiB that cover all rows."""
    step = max(1, SLICE_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def named(facts: SetFacts, row: int) -> Named:
    """How a row is told."""
    return Named(index=int(facts.index[row]), custom_id=facts.custom_ids[int(row)].as_py())


def label_name(facts: SetFacts, label: int) -> str | None:
    """A label's name; None of UNLABELLED."""
    return None if label == UNLABELLED else facts.labels[label]


def _gather(
    facts: SetFacts, heads: NDArray[np.int64], order: NDArray[np.int64], content: NDArray[np.int64]
) -> Images:
    """Images by ascending row, from rows `order` that hold the contents `content`, and a head row of each."""
    by_row = np.argsort(heads)
    place = np.empty(len(heads), dtype=np.int64)
    place[by_row] = np.arange(len(heads))
    of_row = np.empty(len(order), dtype=np.int64)
    of_row[order] = place[content]
    rows = heads[by_row].astype(np.int64)
    return Images(rows, of_row, facts.true_label[rows])
