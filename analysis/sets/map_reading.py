"""Maps of labels, gathered from the tables of a job into a mapped file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.sets.facts import SampledMaps
from jobs.tables import told_of

COLUMN: Final = "label_maps"


def read_maps(
    tables: Callable[[], Iterator[pa.Table]], index: NDArray[np.int64], labels: int, scratch: Path
) -> SampledMaps | None:
    """The maps of the items that have any, whose rows are places in `index`; None where no table holds one.

    Tables of an earlier version have no such column. Where tables differ in what their maps are, since
    workers of two versions wrote them, those like the first count. Tables come oldest first, and
    maps newest first.
    """
    rows: list[NDArray[np.int64]] = []
    told: dict[str, Any] | None = None
    with (scratch / COLUMN).open("wb") as file:
        for table in tables():
            if COLUMN not in table.column_names or table[COLUMN].null_count == len(table):
                # most of a large set, which is why its metadata is not read for nothing
                continue
            said = told_of(table).get("maps")
            if said is None or (told is not None and said != told):
                continue
            held = table.select(["index", COLUMN]).filter(table[COLUMN].is_valid())
            if len(held):
                told = said
                rows.append(np.searchsorted(index, held["index"].to_numpy()))
                held[COLUMN].combine_chunks().flatten().to_numpy().tofile(file)
    if told is None:
        return None
    found, (height, width) = np.concatenate(rows), told["grid"]
    shape = (len(found), labels, height, width)
    values = np.memmap(scratch / COLUMN, dtype=np.float16, mode="r", shape=shape)
    return SampledMaps(found[::-1], values[::-1], told["layer"], told["method"])
