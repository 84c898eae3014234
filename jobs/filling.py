"""What results over an image set say: little in their rows, the numbers in the tables beside them.

A row has what statements ask for (the label on top at the end, where arrays lie) and names its table by the
lease token. The rest is read from there, so that whoever is handed a result finds it whole, with its fields
in the order in which Postgres hands out those of a row.
"""

import uuid
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from jobs.blobs import BlobStore
from jobs.errors import NumbersMissingError
from jobs.objects import ObjectName
from jobs.tables import read_table, told_of
from models.job import Result

TABLE: Final = "table"
"""Of a row's payload: the token of the lease under which the table of its numbers was written."""
TABLES_HELD: Final = 16
"""Mapped at a time: a page has items of one or two units, and of others where pictures are alike."""
FINAL: Final = ("logit", "match_probability", "softmax")
"""Of the last layer; as `uncalibrated_...` of each."""
LOWER: Final = {name: f"uncalibrated_{name}" for name in FINAL}
SIZES: Final = ("width", "height")
TOP: Final = ("tied", "margin", "settle_layer")
ALL_LABELS: Final = ("cosine", "logit")
"""Columns of all labels; others are of those that are kept."""
BY_LAYER: Final = ("cosine", "rank", *LOWER.values())
FITTED: Final = (*FINAL, *LOWER.values())
"""What means something of labels that are texts, and of no others."""

Numbers = NDArray[Any]


class Columns:
    """A table as arrays over its mapped file: what is asked for is read, and nothing else.

    `table` has a row for each of its items, by index; `told` is what its metadata says.
    """

    def __init__(self, table: pa.Table) -> None:
        """Read the indexes.

        Raises:
            NumbersMissingError: it is damaged.
        """
        self.table = table
        self.told = told_of(table)
        if "index" not in self:
            raise NumbersMissingError
        self._index: Numbers = table["index"].to_numpy()
        self._read: dict[str, Numbers] = {}

    def row_of(self, index: int) -> int:
        """Where the item of this index stands.

        Raises:
            NumbersMissingError: it is not in this table.
        """
        row = int(np.searchsorted(self._index, index))
        if row == len(self._index) or self._index[row] != index:
            raise NumbersMissingError
        return row

    def numbers(self, name: str, row: int) -> Numbers:
        """The numbers of a row as they are handed out: of labels that are kept, NaN where they mean nothing.

        `cosine`, `rank` and `uncalibrated_...` are [layer, kept], `top` is [layer], `vector` [width].
        """
        numbers = self._values(name)[row]
        if name in ALL_LABELS:
            numbers = numbers.reshape(-1, len(self.told["labels"]))[:, self.kept(row)]
        if name in BY_LAYER:
            numbers = numbers.reshape(len(self.told["layers"]), -1)
        elif name in ALL_LABELS:
            numbers = numbers[0]
        return self._fitted(numbers, row) if name in FITTED else np.ascontiguousarray(numbers)

    def value(self, name: str, row: int) -> Any:
        """What a row has in a column of single values; None where it has nothing."""
        value = self.table[name][row].as_py()
        # as float32, a number is told in its shortest form
        return np.float32(value) if isinstance(value, float) else value

    def kept(self, row: int) -> Numbers:
        """The places of the labels whose scores are handed out: of few labels all, of many the best."""
        return self.numbers("kept", row) if "kept" in self else np.arange(len(self.told["labels"]))

    def __contains__(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.table.column_names

    def _values(self, name: str) -> Numbers:
        if name not in self._read:
            column = self.table[name]
            # as it was written: one chunk, which is not copied
            flat = column.chunk(0).flatten().to_numpy()
            self._read[name] = flat.reshape(-1, column.type.list_size)
        return self._read[name]

    def _fitted(self, numbers: Numbers, row: int) -> Numbers:
        unfitted = np.isin(self.kept(row), self.told["unfitted"])
        return np.where(unfitted, np.float32(np.nan), numbers)


class Tables:
    """A tenant's tables, each mapped while it is among the last that were used; for one thread."""

    def __init__(self, blobs: BlobStore, tenant: str) -> None:
        """Map none yet."""
        self._blobs = blobs
        self._tenant = tenant
        self._mapped: OrderedDict[tuple[uuid.UUID, str], Columns] = OrderedDict()

    def find(self, job_id: uuid.UUID, token: str) -> Columns:
        """The table that a lease left of a job.

        Raises:
            NumbersMissingError: it was removed, or is damaged.
            BlobStoreMissingError: the store is not there.
        """
        name = (job_id, token)
        if name not in self._mapped:
            written = ObjectName(self._tenant, job_id, uuid.UUID(token))
            self._mapped[name] = Columns(read_table(self._blobs, written))
        self._mapped.move_to_end(name)
        if len(self._mapped) > TABLES_HELD:
            self._mapped.popitem(last=False)
        return self._mapped[name]

    def fill(self, result: Result) -> Result:
        """The result with all that it says; the same one where its row has it.

        Raises:
            NumbersMissingError: its table was removed.
            BlobStoreMissingError: the store is not there.
        """
        said = result.payload
        if said is None or TABLE not in said:
            return result
        columns = self.find(result.job_id, said[TABLE])
        row = columns.row_of(result.index)
        whole = {name: value for name, value in said.items() if name != TABLE}
        if "dimensions" in said:
            whole["embedding"] = columns.numbers("vector", row)
        else:
            whole |= {name: columns.value(name, row) for name in SIZES}
            whole["top"] = said["top"] | _top(columns, row)
            whole["pooled"] = _pooled(columns, row)
        # not added to any session: what is read is not to be written
        return Result(
            job_id=result.job_id,
            index=result.index,
            state=result.state,
            item=result.item,
            payload=_as_stored(whole),
            error=result.error,
        )


def _top(columns: Columns, row: int) -> dict[str, Any]:
    names = columns.told["labels"]
    top = {name: columns.value(name, row) for name in TOP}
    return {**top, "label_by_layer": [names[label] for label in columns.numbers("top", row)]}


def _pooled(columns: Columns, row: int) -> dict[str, Any]:
    names = columns.told["labels"]
    pooled = {
        "layers": columns.told["layers"],
        "labels": [names[label] for label in columns.kept(row)],
        "cosine": columns.numbers("cosine", row),
        "rank": columns.numbers("rank", row),
        "final": {name: columns.numbers(name, row) for name in FINAL if name in columns},
    }
    lower = {name: columns.numbers(column, row) for name, column in LOWER.items() if column in columns}
    return pooled | ({"uncalibrated": lower} if lower else {})


def _as_stored(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload as it would come back from a row: numbers in their shortest form, NaN as null."""
    told: dict[str, Any] = orjson.loads(orjson.dumps(_ordered(payload), option=orjson.OPT_SERIALIZE_NUMPY))
    return told


def _ordered(value: Any) -> Any:
    """Fields in the order of jsonb: short names first, then by their letters."""
    if not isinstance(value, dict):
        return value
    return {name: _ordered(value[name]) for name in sorted(value, key=lambda name: (len(name), name))}
