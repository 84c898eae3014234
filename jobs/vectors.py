"""The final embeddings of a version's pictures, stored so that they can be searched, see `jobs.nearest`.

What a job found is stored in slices, each in a transaction of its own; what is there already stays as it is,
so that an indexing that was cut short is gone on with by doing it again.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray
from sqlalchemy import Integer, Select, any_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session, sessionmaker

from jobs.blobs import BlobStore
from jobs.errors import NothingToSummariseError, UnknownImageSetError
from jobs.set_tables import check_kept, read_sources, sources_of
from models.image_set import ImageSetVersion
from models.job import Job
from models.set_vector import INDEXED_WIDTHS, SetIndex, SetVector

log = structlog.get_logger()

LARGE: Final = 100_000
"""Of a version with more pictures, vectors are found by an index; of a smaller one all are read, in a tenth
of a second or so."""
SLICE: Final = 2_000
"""Vectors of one transaction: a few seconds where each is put into an index."""
COPY: Final = "COPY set_vectors (version_id, model, index, width, large, vec) FROM STDIN (FORMAT BINARY)"
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"

Vectors = NDArray[np.floating[Any]]
Indexes = NDArray[np.integer[Any]]


def index_job(
    sessions: sessionmaker[Session], blobs: BlobStore, job: Job, step: Callable[[], None] = lambda: None
) -> int:
    """Make the version that a job is over searchable by what the job found; how many vectors that are.

    `step` is called before every slice, and may raise to end it.

    Raises:
        NothingToSummariseError: nothing of the job succeeded, or it left no tables.
        UnknownImageSetError: the version was deleted.
        ResultsExpiredError: results of the job, or of a retry of it, were removed meanwhile.
        NumbersMissingError, BlobStoreMissingError: its tables are gone.
    """
    version_id = uuid.UUID(job.options["version"]["id"])
    weights = (job.provenance or {}).get("weights_sha256")
    with sessions() as session:
        sources = sources_of(session, job)
    begun = False
    for index, vectors in _slices(read_sources(blobs, job.tenant, sources)):
        step()
        with sessions.begin() as session:
            if not begun:
                begin_index(session, version_id, job.model, vectors.shape[1], weights)
                begun = True
            store_vectors(session, version_id, job.model, index, vectors)
    if not begun:
        raise NothingToSummariseError
    with sessions.begin() as session:
        check_kept(session, sources)
        count = end_index(session, version_id, job.model)
    log.info("vectors.indexed", job_id=str(job.id), version_id=str(version_id), vectors=count)
    return count


def begin_index(
    session: Session, version_id: uuid.UUID, model: str, width: int, weights_sha256: str | None
) -> None:
    """Have a version take vectors of a model; those of other weights under its name are dropped.

    Raises:
        UnknownImageSetError: there is no such version any more.
    """
    pictures = session.scalar(
        select(ImageSetVersion.items - ImageSetVersion.failed).where(ImageSetVersion.id == version_id)
    )
    if pictures is None:
        raise UnknownImageSetError
    session.execute(
        delete(SetIndex).where(
            SetIndex.version_id == version_id,
            SetIndex.model == model,
            (SetIndex.width != width) | SetIndex.weights_sha256.is_distinct_from(weights_sha256),
        )
    )
    session.execute(
        insert(SetIndex)
        .values(
            version_id=version_id,
            model=model,
            width=width,
            large=pictures > LARGE and width in INDEXED_WIDTHS,
            weights_sha256=weights_sha256,
        )
        .on_conflict_do_nothing()
    )


def store_vectors(
    session: Session, version_id: uuid.UUID, model: str, index: Indexes, vectors: Vectors
) -> int:
    """Store vectors [item, width] of the items `index` names, scaled to norm 1; how many of them are new.

    One of norm 0 has no direction and is left out.

    Raises:
        UnknownImageSetError: `begin_index` was not called, or the version was deleted.
        ValueError: they are not as wide as it said.
    """
    # held: of two that store the same, one waits and finds that it is there
    head = session.scalar(_head(version_id, model).with_for_update(key_share=True))
    if head is None:
        raise UnknownImageSetError
    if vectors.shape[1] != head.width:
        raise ValueError(f"{vectors.shape[1]} numbers a vector, and those of {model} have {head.width}")
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    new = (norms > 0) & ~np.isin(index, _stored(session, version_id, model, index))
    if not new.any():
        return 0
    rows = _binary(head, index[new], vectors[new] / norms[new, None])
    connection = session.connection().connection.driver_connection
    assert connection is not None
    with connection.cursor().copy(COPY) as copy:
        copy.write(_SIGNATURE + rows + _END)
    return int(new.sum())


def end_index(session: Session, version_id: uuid.UUID, model: str) -> int:
    """Have the version be searched by what was stored; how many vectors that are.

    Raises:
        UnknownImageSetError: the version was deleted.
    """
    count = (
        select(func.count())
        .where(SetVector.version_id == version_id, SetVector.model == model)
        .scalar_subquery()
    )
    ended = (
        update(SetIndex)
        .where(SetIndex.version_id == version_id, SetIndex.model == model)
        .values(vectors=count, indexed_at=func.now())
        .returning(SetIndex.vectors)
    )
    vectors = session.scalar(ended)
    if vectors is None:
        raise UnknownImageSetError
    return vectors


def _head(version_id: uuid.UUID, model: str) -> Select[SetIndex]:
    return select(SetIndex).where(SetIndex.version_id == version_id, SetIndex.model == model)


def _stored(session: Session, version_id: uuid.UUID, model: str, index: Indexes) -> Sequence[int]:
    return session.scalars(
        select(SetVector.index).where(
            SetVector.version_id == version_id,
            SetVector.model == model,
            SetVector.index == any_(literal(index.tolist(), ARRAY(Integer))),
        )
    ).all()


def _slices(tables: Iterator[pa.Table]) -> Iterator[tuple[Indexes, Vectors]]:
    """The indexes and vectors of all tables, about SLICE of them at a time: a table holds a claim, few."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table.select(["index", "vector"]))
        rows += len(table)
        if rows >= SLICE:
            yield _arrays(held)
            held, rows = [], 0
    if held:
        yield _arrays(held)


def _arrays(tables: Sequence[pa.Table]) -> tuple[Indexes, Vectors]:
    index = np.concatenate([table["index"].to_numpy() for table in tables])
    flat = np.concatenate([table["vector"].combine_chunks().flatten().to_numpy() for table in tables])
    # a unit that was tried again may be in two tables
    index, first = np.unique(index, return_index=True)
    return index, flat.reshape(-1, tables[0]["vector"].type.list_size)[first]


def _binary(head: SetIndex, index: Indexes, vectors: Vectors) -> bytes:
    """Rows of COPY in Postgres' binary form: the number of fields, then each with its length before it.

    A halfvec is its width, 16 unused bits, and its numbers as IEEE 754 binary16; all of it big-endian.
    """
    model = head.model.encode()
    width = head.width
    fields: list[tuple[str, Any, Any]] = [
        ("version_id", "S16", head.version_id.bytes),
        ("model", f"S{len(model)}", model),
        ("index", ">i4", index),
        ("width", ">i4", width),
        ("large", "?", head.large),
        ("vec", [("width", ">i2"), ("unused", ">i2"), ("numbers", ">u2", (width,))], None),
    ]
    layout: list[tuple[Any, ...]] = [("fields", ">i2")]
    for name, kind, _ in fields:
        layout += [(f"{name}_bytes", ">i4"), (name, kind)]
    rows = np.zeros(len(index), dtype=layout)
    rows["fields"] = len(fields)
    for name, kind, value in fields:
        rows[f"{name}_bytes"] = np.dtype(kind).itemsize
        if value is not None:
            rows[name] = value
    rows["vec"]["width"] = width
    rows["vec"]["numbers"] = vectors.astype(np.float16).view(np.uint16)
    return rows.tobytes()
