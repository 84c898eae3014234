"""Maps of labels, gathered from the tables of a job into a mapped file."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.sets.facts import SampledMaps
from jobs.tables import told_of

COLUMN: Final = "label_maps"


class MapReader:
    """The maps of the items of an `index` that have any, table by table, oldest first.

    Tables of an earlier version have no such column. Where tables differ in what their maps are, since
    workers of two versions wrote them, those like the first count.
    """

    def __init__(self, index: NDArray[np.int64], scratch: Path) -> None:
        """Hold none yet; what is taken goes to a file in `scratch`."""
        self._index = index
        self._path = scratch / COLUMN
        self._rows: list[NDArray[np.int64]] = []
        self._told: dict[str, Any] | None = None

    def take(self, table: pa.Table) -> None:
        """Take the maps of one more table."""
        if COLUMN not in table.column_names or table[COLUMN].null_count == len(table):
            # most of a large set, which is why its metadata is not read for nothing
            return
        said = told_of(table).get("maps")
        if said is None or (self._told is not None and said != self._told):
            return
        held = table.select(["index", COLUMN]).filter(table[COLUMN].is_valid())
        self._told = said
        self._rows.append(np.searchsorted(self._index, held["index"].to_numpy()))
        with self._path.open("ab") as file:
            held[COLUMN].combine_chunks().flatten().to_numpy().tofile(file)

    def taken(self, labels: int) -> SampledMaps | None:
        """The maps of so many labels, newest first, with places in the index; None where no table has any."""
        if self._told is None:
            return None
        rows, (height, width) = np.concatenate(self._rows), self._told["grid"]
        shape = (len(rows), labels, height, width)
        values = np.memmap(self._path, dtype=np.float16, mode="r", shape=shape)
        return SampledMaps(rows[::-1], values[::-1], self._told["layer"], self._told["method"])
