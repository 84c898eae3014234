"""The arrays of a job over an image set and its retries, gathered from the tables that workers left.

What grows with items and labels lies in files of a scratch folder, mapped and not held: a million items of
seven layers and thirty labels have a gigabyte of cosines.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import DroppedItems, FailedItem, Origin, SetFacts
from analysis.sets.map_reading import MapReader
from analysis.sets.places import Places, read_places
from analysis.sets.strange import read_strange
from analysis.sets.true_labels import tell_truths
from jobs.blobs import BlobStore
from jobs.errors import NothingToSummariseError, UnknownImageSetError
from jobs.set_tables import Source, check_kept, read_sources, sources_of
from jobs.tables import told_of
from models.image_set import ImageSetItem
from models.job import Job, Result
from models.types import ItemState

TOLD: Final = ("revision", "weights_sha256", "dtype", "runtime", "layers", "grid")

Tables = Callable[[], Iterator[pa.Table]]


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
        UnknownImageSetError: the set was deleted, also while it was read.
        ResultsExpiredError: results of the job, or of a retry of it, were removed while they were read.
        NumbersMissingError, BlobStoreMissingError: its tables are gone.
    """
    version_id = uuid.UUID(job.options["version"]["id"])
    with sessions() as session:
        sources = sources_of(session, job)

    def tables() -> Iterator[pa.Table]:
        for table in read_sources(blobs, job.tenant, sources):
            step()
            yield table

    held, told = _look(tables)
    labels = tuple(told["labels"])
    columns = {label: column for column, label in enumerate(labels)}
    places = read_places(sessions, version_id, columns, scratch, step)
    if len(places.content) != job.options["version"]["items"]:
        raise UnknownImageSetError
    failed, retried = _read_outcomes(sessions, sources, held.index, places)
    asked = next(source.places for source in sources if source.job_id == job.id)
    maps = MapReader(held.index, scratch)
    arrays = _gather(tables, held, told, scratch, maps)
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
        index=held.index,
        custom_ids=places.custom_id.take(pa.array(held.index)),
        true_label=places.true_label[held.index],
        contents=places.content[held.index],
        sampled=np.searchsorted(held.index, held.sampled),
        failed=failed,
        retried=retried,
        dropped=_dropped(asked, held.index, failed, places),
        seed=seed,
        maps=maps.taken(len(labels)),
        truths=None,
        **arrays,
    )
    facts = tell_truths(facts, sessions, version_id, step)
    with sessions() as session:
        # the first items of a deleted set go first: while these are there, all that was read was whole
        if session.get(ImageSetItem, (version_id, 0)) is None:
            raise UnknownImageSetError
        check_kept(session, sources)
    return facts


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The indexes of all items in the tables, each once and ascending, and of those that are sampled."""

    index: NDArray[np.int64]
    sampled: NDArray[np.int64]


def _look(tables: Tables) -> tuple[Held, dict[str, Any]]:
    """Which items the tables hold, and what they tell."""
    found, sampled, told = [], [], None
    for table in tables():
        index = table["index"].to_numpy().astype(np.int64)
        found.append(index)
        sampled.append(index[table["layer_vectors"].is_valid().to_numpy()])
        told = told or told_of(table)
    if told is None:
        raise NothingToSummariseError
    # a unit that was tried again may be in two of them
    return Held(np.unique(np.concatenate(found)), np.unique(np.concatenate(sampled))), told


def _gather(
    tables: Tables, held: Held, told: dict[str, Any], scratch: Path, maps: MapReader
) -> dict[str, NDArray[Any]]:
    """The arrays of SetFacts that are read from tables, in the order of the index; `maps` takes its own.

    In one pass: a million items have tens of thousands of tables to be opened.
    """
    items, layers, labels, width = len(held.index), len(told["layers"]), len(told["labels"]), told["width"]
    cosine = _mapped(scratch / "cosine", (items, layers, labels))
    logit = _mapped(scratch / "logit", (items, labels))
    vectors = _mapped(scratch / "vectors", (items, width))
    layer_vectors = _mapped(scratch / "layer_vectors", (len(held.sampled), layers, width))
    perceptual = np.zeros(items, dtype=np.uint64)
    for table in tables():
        index = table["index"].to_numpy()
        rows = np.searchsorted(held.index, index)
        cosine[rows] = _values(table, "cosine").reshape(len(rows), layers, labels)
        logit[rows] = _values(table, "logit").reshape(len(rows), labels)
        vectors[rows] = _values(table, "vector").reshape(len(rows), width)
        perceptual[rows] = table["phash"].to_numpy()
        maps.take(table)
        taken = table["layer_vectors"].is_valid()
        places = np.searchsorted(held.sampled, index[taken.to_numpy()])
        kept = table["layer_vectors"].filter(taken)
        layer_vectors[places] = kept.combine_chunks().flatten().to_numpy().reshape(-1, layers, width)
    return {
        "cosine": cosine,
        "logit": logit,
        "vectors": vectors,
        "perceptual": perceptual,
        "layer_vectors": layer_vectors,
    }


def _values(table: pa.Table, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = table[name].combine_chunks().flatten().to_numpy()
    return values


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if 0 in shape:
        # nothing can be mapped
        return np.zeros(shape, dtype=np.float32)
    return np.memmap(path, dtype=np.float32, mode="w+", shape=shape)


def _read_outcomes(
    sessions: sessionmaker[Session], sources: Sequence[Source], succeeded: NDArray[np.int64], places: Places
) -> tuple[list[FailedItem], int]:
    """The items that never succeeded, with their newest errors; and how many did after they had failed."""
    errors: dict[int, dict[str, Any]] = {}
    with sessions() as session:
        for source in sources:
            rows = session.execute(
                select(Result.index, Result.error)
                .where(Result.job_id == source.job_id, Result.state == ItemState.FAILED)
                .order_by(Result.index)
            ).all()
            index = source.placed(np.array([row.index for row in rows], dtype=np.int32))
            errors.update(zip(index.tolist(), (row.error for row in rows), strict=True))
    known = np.array(sorted(errors), dtype=np.int64)
    again = np.isin(known, succeeded, assume_unique=True)
    failed = [
        FailedItem(
            index=index,
            custom_id=places.custom_id[index].as_py(),
            true_label=int(places.true_label[index]),
            code=errors[index]["code"],
            message=errors[index]["message"],
        )
        for index in known[~again].tolist()
    ]
    return failed, int(again.sum())


def _dropped(
    asked: NDArray[np.int32] | None,
    succeeded: NDArray[np.int64],
    failed: Sequence[FailedItem],
    places: Places,
) -> DroppedItems:
    """The items of the job that have neither a result nor an error; `asked` is None of a whole version."""
    left = np.zeros(len(places.content), dtype=bool)
    left[slice(None) if asked is None else asked] = True
    left[succeeded] = False
    left[[item.index for item in failed]] = False
    index = np.flatnonzero(left)
    return DroppedItems(index, places.custom_id.take(pa.array(index)), places.true_label[index])


def _model(job: Job) -> dict[str, Any]:
    provenance = job.provenance or {}
    return {"id": job.model, **{name: provenance.get(name) for name in TOLD}}
