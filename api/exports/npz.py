"""Results as a .npz: labelled arrays of the items that succeeded, and a list of those that failed.

A .npy says how large it is before its numbers. So it is found out first which items there are, and then each
array is read in a pass of its own: Postgres picks out what it needs, and nothing is held or laid down.
"""

import zipfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import ColumnElement

from api.exports.reading import (
    ROWS_AT_ONCE,
    Export,
    check_complete,
    first_payload,
    first_result,
    label_names,
)
from api.exports.sink import Sink
from api.schemas.ids import job_id
from engine.plan import MAX_SCORED_LABELS
from jobs import exports
from jobs.errors import ResultsExpiredError
from jobs.filling import TABLE, Columns
from models.job import Result

SCHEMA_VERSION: Final = 1
SMALL_AT_ONCE: Final = 1_024
"""Rows of a pass that reads a few bytes of each."""
ANY_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The first that a ZIP file knows: two exports of the same results are the same bytes."""

POOLED = Result.payload["pooled"]
TOP = Result.payload["top"]
NUMBERS: Final[dict[str, tuple[ColumnElement[Any], str]]] = {
    "cosine": (POOLED["cosine"], "cosine"),
    "logit": (POOLED["final"]["logit"], "logit"),
    "match_probability": (POOLED["final"]["match_probability"], "match_probability"),
    "embedding": (Result.payload["embedding"], "vector"),
}
"""Where an array of the file is read from: in the rows, or in the column of this name of their tables."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The items that the file is of, by index; of the failed ones where their code stands among `codes`."""

    succeeded: NDArray[np.int32]
    failed: NDArray[np.int32]
    failed_code: NDArray[np.uint16]
    codes: list[str]


@dataclass(frozen=True, slots=True)
class Stacked:
    """An array of the file, whose rows come some at a time."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: Iterable[NDArray[Any]]


def write_npz(export: Export) -> Iterator[bytes]:
    """The file, array by array."""
    taken, sink = _take(export), Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for stacked in _arrays(export, taken):
            entry = zipfile.ZipInfo(f"{stacked.name}.npy", ANY_TIME)
            # by this the archive chooses between sizes of 32 and of 64 bits
            entry.file_size = stacked.dtype.itemsize * int(np.prod(stacked.shape, dtype=np.int64))
            with archive.open(entry, "w") as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(stacked.dtype),
                    "fortran_order": False,
                    "shape": stacked.shape,
                }
                np.lib.format.write_array_header_1_0(file, header)
                for rows in stacked.rows:
                    file.write(np.ascontiguousarray(rows, stacked.dtype).tobytes())
                    yield from sink.take()
    yield from sink.take()


def _take(export: Export) -> Taken:
    succeeded, failed, failed_code = array("i"), array("i"), array("H")
    codes: dict[str, int] = {}
    after = -1
    while True:
        with export.sessions() as session:
            found = session.execute(exports.outcomes(export.job.id, after=after, limit=SMALL_AT_ONCE)).all()
        for index, code in found:
            if code is None:
                succeeded.append(index)
            else:
                failed.append(index)
                failed_code.append(codes.setdefault(code, len(codes)))
        if len(found) < SMALL_AT_ONCE:
            break
        after = found[-1][0]
    check_complete(export, len(succeeded) + len(failed))
    return Taken(
        np.array(succeeded, np.int32), np.array(failed, np.int32), np.array(failed_code, np.uint16), [*codes]
    )


def _arrays(export: Export, taken: Taken) -> Iterator[Stacked]:
    yield _whole("about", np.array(orjson.dumps(_about(export)).decode()))
    yield _whole("index", taken.succeeded)
    yield _custom_ids(export, taken)
    yield _whole("failed_index", taken.failed)
    yield _codes(taken)
    yield from (_lens if export.is_lens else _embeddings)(export, taken)


def _codes(taken: Taken) -> Stacked:
    """Why each of the failed ones failed: as texts of one length they are many times their numbers."""
    names = np.array([*taken.codes, ""])
    numbers = taken.failed_code
    texts = (names[numbers[at : at + SMALL_AT_ONCE]] for at in range(0, len(numbers), SMALL_AT_ONCE))
    return Stacked("failed_code", names.dtype, numbers.shape, texts)


def _about(export: Export) -> dict[str, Any]:
    job = export.job
    return {
        "schema_version": SCHEMA_VERSION,
        "job_id": job_id(job.id),
        "type": job.type,
        "model": job.model,
        "provenance": job.provenance,
    }


def _custom_ids(export: Export, taken: Taken) -> Stacked:
    with export.sessions() as session:
        longest = session.scalar(exports.longest_custom_id(export.job.id)) or 1
    rows = _read(export, taken, SMALL_AT_ONCE, Result.item["custom_id"].astext)
    texts = (np.array([custom_id or "" for (custom_id,) in some]) for some in rows)
    return Stacked("custom_id", np.dtype(f"<U{longest}"), (len(taken.succeeded),), texts)


def _embeddings(export: Export, taken: Taken) -> Iterator[Stacked]:
    width = first_payload(export).get("dimensions", 0)
    yield _numbers(export, taken, "embedding", width)


def _lens(export: Export, taken: Taken) -> Iterator[Stacked]:
    names = label_names(export)
    pooled = first_payload(export).get("pooled", {"layers": [], "labels": names[:MAX_SCORED_LABELS]})
    depth, kept = len(pooled["layers"]), len(pooled["labels"])
    yield _whole("layers", np.array(pooled["layers"], np.int32))
    yield _whole("labels", np.array(names))
    places = {name: place for place, name in enumerate(names)}
    yield from _tops(export, taken, places)
    if len(names) > MAX_SCORED_LABELS:
        yield Stacked(
            "label_index", np.dtype(np.int32), (len(taken.succeeded), kept), _kept(export, taken, places)
        )
    yield _numbers(export, taken, "cosine", depth, kept)
    yield _numbers(export, taken, "logit", kept)
    yield _numbers(export, taken, "match_probability", kept)


def _tops(export: Export, taken: Taken, places: dict[str, int]) -> Iterator[Stacked]:
    """What is on top of each item: of few bytes, and held."""
    items, tables = len(taken.succeeded), export.tables()
    top, settled = np.empty(items, np.int32), np.empty(items, np.int32)
    margin = np.empty(items, np.float32)
    at = 0
    said = (Result.index.expression, Result.payload[TABLE].astext, TOP["label"].astext)
    for some in _read(export, taken, SMALL_AT_ONCE, *said, TOP["settle_layer"], TOP["margin"]):
        for index, token, label, *told in some:
            layer, above = told if token is None else _top(tables.find(export.job.id, token), index)
            top[at], settled[at] = places[label], -1 if layer is None else layer
            margin[at] = np.nan if above is None else above
            at += 1
    yield _whole("top", top)
    yield _whole("settle_layer", settled)
    yield _whole("margin", margin)


def _top(table: Columns, index: int) -> list[Any]:
    row = table.row_of(index)
    return [table.value(name, row) for name in ("settle_layer", "margin")]


def _kept(export: Export, taken: Taken, places: dict[str, int]) -> Iterator[NDArray[Any]]:
    if _has_tables(export):
        yield from _from_tables(export, taken, "kept")
        return
    for some in _read(export, taken, ROWS_AT_ONCE, POOLED["labels"]):
        yield np.array([[places[name] for name in labels] for (labels,) in some])


def _numbers(export: Export, taken: Taken, name: str, *shape: int) -> Stacked:
    column, table_column = NUMBERS[name]
    if _has_tables(export):
        floats = _from_tables(export, taken, table_column)
    else:
        rows = _read(export, taken, ROWS_AT_ONCE, column)
        floats = (np.array([numbers for (numbers,) in some], np.float32) for some in rows)
    return Stacked(name, np.dtype(np.float32), (len(taken.succeeded), *shape), floats)


def _has_tables(export: Export) -> bool:
    """Whether rows have no numbers, but name tables; of a job, all of them or none."""
    first = first_result(export)
    return first is not None and TABLE in (first.payload or {})


def _from_tables(export: Export, taken: Taken, column: str) -> Iterator[NDArray[Any]]:
    tables = export.tables()
    for some in _read(export, taken, ROWS_AT_ONCE, Result.index.expression, Result.payload[TABLE].astext):
        # copied one by one: a view would keep its file open, and each row may be of another one
        rows: list[bytes] = []
        for index, token in some:
            table = tables.find(export.job.id, token)
            numbers = table.numbers(column, table.row_of(index))
            rows.append(numbers.tobytes())
        yield np.frombuffer(b"".join(rows), numbers.dtype).reshape(len(rows), *numbers.shape)


def _whole(name: str, values: NDArray[Any]) -> Stacked:
    return Stacked(name, values.dtype, values.shape, [values])


def _read(
    export: Export, taken: Taken, at_once: int, *columns: ColumnElement[Any]
) -> Iterator[Sequence[Any]]:
    """Columns of the items that succeeded, some rows at a time.

    Raises:
        ResultsExpiredError: some were removed meanwhile.
    """
    for start in range(0, len(taken.succeeded), at_once):
        indexes = taken.succeeded[start : start + at_once].tolist()
        with export.sessions() as session:
            rows = session.execute(exports.values(export.job.id, indexes, *columns)).all()
        if len(rows) != len(indexes):
            raise ResultsExpiredError
        yield rows
