"""Results over an image set as tables, beside the rows: what a summary of a million items reads in seconds.

A worker writes one Arrow file for what a claim holds of a job, named by the lease token: one that comes back
late writes a file that nobody reads. A table has a row for each item that succeeded:

- `index` int32, the item's; `width`, `height` int32, of the picture, upright, in pixels;
- `phash` uint64, a perceptual hash of the picture as the model reads it (imagehash.phash);
- `thumbnail` binary, a small JPEG of it with its aspect, of PICTURED items of a set at most;
- `vector` list<float32>[width], the final embedding, of norm 1;
- `cosine` list<float32>[layers x labels] by layer and then by label, `logit` list<float32>[labels] of the
  last layer, and of sampled items `layer_vectors` list<float32>[layers x width], each of norm 1, and of fewer
  `label_maps` list<float16>[labels x rows x cols], what each patch says of each label;
- `tied` bool, `margin` float32 and `settle_layer` int32 as a result has them, the last two null where it has
  none; `top` list<uint8>[layers], the label on top; of the labels whose scores are handed out `rank`
  list<uint8>[layers x kept], `match_probability` list<float32>[kept] and, where they were asked for,
  `softmax` and `uncalibrated_...`; of many labels which these are, `kept` list<uint8>[kept]. These integers
  are as wide as the number of labels needs.

That of embeddings has `index` and `vector` alone, the vector as it is handed out.

The schema's metadata says under `lensqueue` as JSON: `width`, and of a lens `layers`, `labels`, `unfitted`,
the places of labels whose logits mean nothing, and `maps`: null, or the `grid` [rows, cols] of the maps,
their `layer` and `method`.
"""

import errno
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Select, select

from jobs.blobs import BlobStore
from jobs.errors import NumbersMissingError
from jobs.objects import ObjectName
from models.types import AttemptOutcome
from models.work import Attempt

TOLD: Final = b"lensqueue"
SAMPLED: Final = 20_000
"""Of so many items at most the embeddings of all layers are kept."""
PICTURED: Final = 50_000
"""Of so many items at most a thumbnail is kept: they are what a report shows."""
_MIXED: Final = 0x9E3779B97F4A7C15
_WORD: Final = 2**64


def is_sampled(index: int, items: int, most: int = SAMPLED) -> bool:
    """Whether an item is of the sample of a set of so many: of each set the same, without looking at others.

    By a hash of the index (Fibonacci hashing, then splitmix64's finish), so that about `most` are, however
    the set is ordered.
    """
    mixed = (index + 1) * _MIXED % _WORD
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % _WORD
    return (mixed ^ (mixed >> 31)) * items < most * _WORD


def put_table(blobs: BlobStore, name: ObjectName, table: pa.Table, told: dict[str, Any]) -> None:
    """Store a table durably.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    table = table.replace_schema_metadata({TOLD: orjson.dumps(told)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    blobs.write(path_of(blobs, name), [sink.getvalue().to_pybytes()])


def read_table(blobs: BlobStore, name: ObjectName) -> pa.Table:
    """A table, mapped and not read: columns come into memory as they are used.

    Raises:
        NumbersMissingError: there is none, or it is damaged.
        BlobStoreMissingError: the store is not there.
    """
    return _read(blobs, path_of(blobs, name))


def told_of(table: pa.Table) -> dict[str, Any]:
    """What the metadata of a table says.

    Raises:
        NumbersMissingError: it is damaged.
    """
    try:
        told: dict[str, Any] = orjson.loads(table.schema.metadata[TOLD])
    except (KeyError, TypeError, orjson.JSONDecodeError):
        raise NumbersMissingError from None
    return told


def path_of(blobs: BlobStore, name: ObjectName) -> Path:
    """Where a table lies: beside the object of the same lease."""
    return name.path(blobs).with_suffix(".arrow")


def tables_of(job_id: uuid.UUID) -> Select[uuid.UUID]:
    """The tokens of the tables that results of a job were stored with."""
    return (
        select(Attempt.lease_token)
        .where(Attempt.job_id == job_id, Attempt.outcome == AttemptOutcome.COMPLETED)
        .distinct()
        .order_by(Attempt.lease_token)
    )


def read_thumbnails(tables: Iterable[pa.Table], wanted: Iterable[int]) -> dict[int, bytes]:
    """The thumbnails of these items, by index, as far as they were kept."""
    asked = pa.array(sorted(set(wanted)), pa.int32())
    found: dict[int, bytes] = {}
    for table in tables:
        # what is not selected first is filtered too
        rows = table.select(["index", "thumbnail"]).filter(pc.is_in(table["index"], asked))
        found.update(
            (row["index"], row["thumbnail"]) for row in rows.to_pylist() if row["thumbnail"] is not None
        )
    return found


def read_tables(
    blobs: BlobStore, tenant: str, job_id: uuid.UUID, tokens: Sequence[uuid.UUID]
) -> Iterator[pa.Table]:
    """The tables of these tokens, one after the other; a claim in which nothing succeeded has none.

    Raises:
        NumbersMissingError: one is damaged.
        BlobStoreMissingError: the store is not there.
    """
    for token in tokens:
        path = path_of(blobs, ObjectName(tenant, job_id, token))
        if path.exists():
            yield _read(blobs, path)
    blobs.check()


def _read(blobs: BlobStore, path: Path) -> pa.Table:
    try:
        # an empty file cannot be mapped, and one that ends early cannot be read
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        # that it is mapped says nothing of where its columns begin and end
        table.validate()
    except (OSError, pa.ArrowException) as error:
        # of damage pyarrow raises either, without a number; what has one is no fault of the table
        if getattr(error, "errno", None) not in {None, errno.ENOENT}:
            raise
        blobs.check()
        raise NumbersMissingError from None
    return table
