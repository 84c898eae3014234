"""The arrays of a job over an image set, gathered from the tables that its workers left.

What grows with items and labels lies in files of a scratch folder, mapped and not held: a million items of
seven layers and thirty labels have a gigabyte of cosines.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import UNLABELLED, FailedItem, Origin, SetFacts
from analysis.sets.map_reading import read_maps
from analysis.sets.strange import read_strange
from analysis.sets.true_labels import tell_truths
from jobs.blobs import BlobStore
from jobs.errors import NothingToSummariseError
from jobs.tables import read_tables, tables_of, told_of
from models.image_set import ImageSetItem
from models.job import Job, Result
from models.types import ItemState

ROWS_AT_ONCE: Final = 20_000
CONTENT_DIGITS: Final = 15
"""Of a SHA-256 so many hex digits tell contents apart: 60 bits, which fit into a signed word."""
TOLD: Final = ("revision", "weights_sha256", "dtype", "runtime", "layers", "grid")

Tables = Callable[[], Iterator[pa.Table]]


@dataclass(frozen=True, slots=True)
class Place:
    """What the version says of one item."""

    custom_id: str | None
    content: int
    true_label: str | None


def read_facts(
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    job: Job,
    scratch: Path,
    step: Callable[[], None] = lambda: None,
    seed: int = 0,
) -> SetFacts:
    """All that a summary of the job is computed from; `scratch` is an empty folder that outlives the facts.

    `step` is called now and then, and may raise to end it.

    Raises:
        NothingToSummariseError: nothing of the job succeeded, or it left no tables.
        BlobMissingError, BlobStoreMissingError: its tables are gone.
    """
    version_id = uuid.UUID(job.options["version"]["id"])
    with sessions() as session:
        tokens = session.scalars(tables_of(job.id)).all()

    def tables() -> Iterator[pa.Table]:
        for table in read_tables(blobs, job.tenant, job.id, tokens):
            step()
            yield table

    index, told = _indexes(tables)
    places = _read_places(sessions, version_id, step)
    labels = tuple(told["labels"])
    columns = {label: column for column, label in enumerate(labels)}
    names = [places[item] for item in index.tolist()]
    arrays = _gather(tables, index, told, scratch)
    facts = SetFacts(
        origin=Origin(
            job_id=f"job_{job.id.hex}",
            version_id=f"isv_{version_id.hex}",
            manifest_sha256=job.options["version"]["manifest_sha256"],
            model=_model(job),
        ),
        strange=read_strange(sessions, version_id, labels),
        layers=tuple(told["layers"]),
        labels=labels,
        index=index,
        custom_ids=[place.custom_id for place in names],
        true_label=np.array(
            [columns.get(place.true_label or "", UNLABELLED) for place in names], dtype=np.int32
        ),
        contents=np.array([place.content for place in names], dtype=np.int64),
        failed=_read_failed(sessions, job, places, columns),
        seed=seed,
        maps=read_maps(tables, index, len(labels), scratch),
        truths=None,
        **arrays,
    )
    return tell_truths(facts, sessions, version_id, step)


def _indexes(tables: Tables) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """The indexes of all items in the tables, each once and in order, and what the tables tell."""
    found, told = [], None
    for table in tables():
        found.append(table["index"].to_numpy().astype(np.int64))
        told = told or told_of(table)
    if told is None:
        raise NothingToSummariseError
    # a unit that was tried again may be in two of them, with the same numbers
    return np.unique(np.concatenate(found)), told


def _gather(
    tables: Tables, index: NDArray[np.int64], told: dict[str, Any], scratch: Path
) -> dict[str, NDArray[Any]]:
    """The arrays of SetFacts that are read from tables, in the order of `index`."""
    items, layers, labels, width = len(index), len(told["layers"]), len(told["labels"]), told["width"]
    cosine = _mapped(scratch / "cosine", (items, layers, labels))
    logit = _mapped(scratch / "logit", (items, labels))
    vectors = _mapped(scratch / "vectors", (items, width))
    perceptual = np.zeros(items, dtype=np.uint64)
    sampled: dict[int, NDArray[np.float32]] = {}
    for table in tables():
        rows = np.searchsorted(index, table["index"].to_numpy())
        cosine[rows] = _values(table, "cosine").reshape(len(rows), layers, labels)
        logit[rows] = _values(table, "logit").reshape(len(rows), labels)
        vectors[rows] = _values(table, "vector").reshape(len(rows), width)
        perceptual[rows] = table["phash"].to_numpy()
        taken = table["layer_vectors"].is_valid().to_numpy()
        held = _values(table.filter(pa.array(taken)), "layer_vectors")
        sampled.update(zip(rows[taken].tolist(), held.reshape(-1, layers, width), strict=True))
    order = sorted(sampled)
    empty = np.zeros((0, layers, width), dtype=np.float32)
    return {
        "cosine": cosine,
        "logit": logit,
        "vectors": vectors,
        "perceptual": perceptual,
        "sampled": np.array(order, dtype=np.int64),
        "layer_vectors": np.stack([sampled[row] for row in order]) if order else empty,
    }


def _values(table: pa.Table, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = table[name].combine_chunks().flatten().to_numpy()
    return values


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.memmap(path, dtype=np.float32, mode="w+", shape=shape)


def _read_places(
    sessions: sessionmaker[Session], version_id: uuid.UUID, step: Callable[[], None]
) -> dict[int, Place]:
    """What the version says of each of its items, by index."""
    places: dict[int, Place] = {}
    after = -1
    while True:
        step()
        with sessions() as session:
            rows = session.execute(
                select(
                    ImageSetItem.index, ImageSetItem.custom_id, ImageSetItem.sha256, ImageSetItem.true_label
                )
                .where(ImageSetItem.version_id == version_id, ImageSetItem.index > after)
                .order_by(ImageSetItem.index)
                .limit(ROWS_AT_ONCE)
            ).all()
        for index, custom_id, sha256, true_label in rows:
            content = -1 if sha256 is None else int(sha256[:CONTENT_DIGITS], 16)
            places[index] = Place(custom_id, content, true_label)
        if len(rows) < ROWS_AT_ONCE:
            return places
        after = rows[-1][0]


def _read_failed(
    sessions: sessionmaker[Session], job: Job, places: dict[int, Place], columns: dict[str, int]
) -> list[FailedItem]:
    with sessions() as session:
        rows = session.execute(
            select(Result.index, Result.error)
            .where(Result.job_id == job.id, Result.state == ItemState.FAILED)
            .order_by(Result.index)
        ).all()
    return [
        FailedItem(
            index=index,
            custom_id=places[index].custom_id,
            true_label=columns.get(places[index].true_label or "", UNLABELLED),
            code=error["code"],
            message=error["message"],
        )
        for index, error in rows
    ]


def _model(job: Job) -> dict[str, Any]:
    provenance = job.provenance or {}
    return {"id": job.model, **{name: provenance.get(name) for name in TOLD}}
