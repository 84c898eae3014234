"""What a job found over a version of an image set, as arrays: all that its summary is computed from.

Rows of arrays are items that succeeded, in the order of their indexes; `index` names the item of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True, eq=False)
class SetFacts:
    """A logit lens over a set.

    `layers` are those of the job in their order, the last one the final; `labels` name the columns of scores.
    `cosine` [row, layer, label] may lie in a mapped file larger than memory: it is read in slices of rows.
    `logit` [row, label] are the final ones. `vectors` [row, width] are final embeddings of norm 1.
    `contents` [row] has equal numbers for items with the same bytes, `perceptual` [row] a 64-bit perceptual
    hash of each picture; `custom_ids` [row] are texts or null. `sampled` are rows in ascending order, and
    `layer_vectors` [sampled row, layer, width] their embeddings at each layer, of norm 1. Of all rows
    `retried` are those of items that a retry of the job had to compute.
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
    seed: int = 0
    retried: int = 0
