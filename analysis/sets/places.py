"""What a version says of its items, as arrays by index; names lie in a mapped file."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import UNLABELLED

ITEMS: Final = """
    COPY (
        SELECT coalesce(CAST(CAST('x' || left(sha256, 15) AS bit(60)) AS bigint), -1), true_label, custom_id
        FROM image_set_items WHERE version_id = %s ORDER BY index
    ) TO STDOUT (FORMAT csv)
"""
"""Of a SHA-256 15 hex digits tell contents apart: 60 bits, which fit into a signed word."""
COLUMNS: Final = {"content": pa.int64(), "true_label": pa.string(), "custom_id": pa.string()}
BLOCK_BYTES: Final = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Items by index, which has no gaps.

    `true_label` is the place among the job's labels, or UNLABELLED; `content` is the same for the same bytes;
    `custom_id` lies in a mapped file.
    """

    content: NDArray[np.int64]
    true_label: NDArray[np.int32]
    custom_id: pa.ChunkedArray


def read_places(
    sessions: sessionmaker[Session],
    version_id: uuid.UUID,
    columns: Mapping[str, int],
    scratch: Path,
    step: Callable[[], None],
) -> Places:
    """The items of a version, whose labels have these `columns` of scores."""
    copied, names = scratch / "items.csv", scratch / "custom_ids.arrow"
    _copy(sessions, version_id, copied, step)
    contents, labels = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    known = pa.array(columns, pa.string())
    schema = pa.schema([("custom_id", pa.string())])
    with pa.OSFile(str(names), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _batches(copied):
            step()
            contents.append(batch["content"].to_numpy())
            place = pc.fill_null(pc.index_in(batch["true_label"], known), UNLABELLED)
            labels.append(place.to_numpy())
            writer.write_batch(batch.select(["custom_id"]))
    copied.unlink()
    mapped = pa.ipc.open_file(pa.memory_map(str(names))).read_all()
    return Places(np.concatenate(contents), np.concatenate(labels), mapped["custom_id"])


def _copy(
    sessions: sessionmaker[Session], version_id: uuid.UUID, target: Path, step: Callable[[], None]
) -> None:
    """Have Postgres write the items as CSV: a million rows as objects would take ten times as long."""
    with sessions() as session, target.open("wb") as file:
        connection: Any = session.connection().connection.driver_connection
        with connection.cursor().copy(ITEMS, (version_id,)) as rows:
            for block in rows:
                file.write(block)
        step()


def _batches(copied: Path) -> Iterator[pa.RecordBatch]:
    if not copied.stat().st_size:
        return
    yield from pa_csv.open_csv(
        copied,
        pa_csv.ReadOptions(column_names=list(COLUMNS), block_size=BLOCK_BYTES),
        pa_csv.ParseOptions(newlines_in_values=True),
        # what is null has no quotes, and an empty text has
        pa_csv.ConvertOptions(
            column_types=COLUMNS,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
