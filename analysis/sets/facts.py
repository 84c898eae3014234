"""What a job found over a version of an image set, as arrays: all that its summary is computed from.

Rows of arrays are items that succeeded, in the order of their indexes; `index` names the item of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UNLABELLED = -1
"""Of an item whose true label is not known, or is none of the job's labels."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The job and the version that the arrays are of; `model` is told in the summary as it is."""

    job_id: str
    version_id: str
    manifest_sha256: str
    model: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item without a result, and why."""

    index: int
    custom_id: str | None
    true_label: int
    code: str
    message: str
    true_labels: tuple[int, ...] = ()
    """In the place of `true_label` in a set of which several labels may be true."""

    @property
    def is_labelled(self) -> bool:
        """Whether its truth is known."""
        return self.true_label != UNLABELLED or bool(self.true_labels)


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """Which labels are true of each row, several or none: row r has `labels[ends[r]:ends[r + 1]]`."""

    ends: NDArray[np.int64]
    labels: NDArray[np.int32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether any label is true of each row."""
        return np.diff(self.ends) > 0

    def of(self, rows: NDArray[np.int64], labels: int) -> NDArray[np.bool_]:
        """The truths of some rows as [row, label], of so many labels."""
        found = np.zeros((len(rows), labels), dtype=bool)
        for place, row in enumerate(rows.tolist()):
            found[place, self.labels[self.ends[row] : self.ends[row + 1]]] = True
        return found


@dataclass(frozen=True, slots=True, eq=False)
class DroppedItems:
    """Items that were never computed, since the job was cancelled or ran out of time; ascending by `index`.

    As arrays, since they may be all but a few of a large set; `truths` as in SetFacts.
    """

    index: NDArray[np.int64]
    custom_ids: pa.ChunkedArray
    true_label: NDArray[np.int32]
    truths: Truths | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the truth of each is known."""
        return self.true_label != UNLABELLED if self.truths is None else self.truths.known


NONE_DROPPED: Final = DroppedItems(
    np.empty(0, np.int64), pa.chunked_array([], pa.string()), np.empty(0, np.int32)
)


@dataclass(frozen=True, slots=True, eq=False)
class SampledMaps:
    """What each patch says of each label, of a sample of items: `values` [sampled row, label, row, col].

    `rows` are those of the items, in any order. Of one that is there twice the first counts: it is the
    newest. `values` may lie in a mapped file. `layer` and `method` are those of the patch lens.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float16]
    layer: int
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class SetFacts:
    """A logit lens over a set.

    `layers` are those of the job in their order, the last one the final; `labels` name the columns of scores.
    `cosine` [row, layer, label] may lie in a mapped file larger than memory: it is read in slices of rows.
    `logit` [row, label] are the final ones. `vectors` [row, width] are final embeddings of norm 1.
    `contents` [row] has equal numbers for items with the same bytes, `perceptual` [row] a 64-bit perceptual
    hash of each picture; `custom_ids` [row] are texts or null. `sampled` are rows in ascending order, and
    `layer_vectors` [sampled row, layer, width] their embeddings at each layer, of norm 1. `maps` are None
    where the job kept none. Of all rows `retried` are those of items that a retry of the job had to compute.

    `truths` say which labels are true where several may be: the truth of a row that has none is not known,
    and `true_label` is UNLABELLED throughout. None where one is true of each.
    """

    origin: Origin
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    index: NDArray[np.int64]
    custom_ids: pa.ChunkedArray
    true_label: NDArray[np.int32]
    contents: NDArray[np.int64]
    perceptual: NDArray[np.uint64]
    cosine: NDArray[np.float32]
    logit: NDArray[np.float32]
    vectors: NDArray[np.float32]
    sampled: NDArray[np.int64]
    layer_vectors: NDArray[np.float32]
    failed: Sequence[FailedItem]
    strange: Mapping[str, int] = field(default_factory=dict)
    """Of true labels that are none of the job's, most frequent first: how many items have each."""
    seed: int = 0
    retried: int = 0
    dropped: DroppedItems = NONE_DROPPED
    maps: SampledMaps | None = None
    truths: Truths | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the truth of each row is known."""
        return self.true_label != UNLABELLED if self.truths is None else self.truths.known
