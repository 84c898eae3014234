"""The tables of a job over an image set and of its retries, as one: each row by the index of its item.

A retry computes what did not succeed and numbers its items anew; they tell the index of the first try. What
it found comes after what was found before it, so that whoever puts rows in their places has the newest.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Select, Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from jobs import queries
from jobs.blobs import BlobStore
from jobs.errors import ResultsExpiredError
from jobs.tables import read_tables, tables_of
from models.job import Job

FIRST: Final = text("""
    SELECT CAST(entry -> 'index' AS integer), CAST(entry -> 'first_index' AS integer)
    FROM job_inputs CROSS JOIN LATERAL jsonb_array_elements(items) AS entry
    WHERE job_id = :job_id
""").bindparams(bindparam("job_id", type_=Uuid()))

ROWS_AT_ONCE: Final = 10_000

Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Source:
    """A job, the tokens of its tables, and the place of each of its items in the version.

    `places` [index] is None where items have the indexes of the version.
    """

    job_id: uuid.UUID
    tokens: Sequence[uuid.UUID]
    places: Places | None

    def placed(self, index: NDArray[np.int32]) -> NDArray[np.int32]:
        """The places of items of the job."""
        return index if self.places is None else self.places[index]


def sources_of(session: Session, job: Job) -> list[Source]:
    """A job over a version and the retries of it whose results are kept, oldest first.

    Not those that other weights computed: their numbers say nothing beside the job's. After they were read,
    `check_kept` says whether that was all of them.

    Raises:
        ResultsExpiredError: results of one go at this moment.
    """
    sources = [_source(session, job)]
    before = [job.id]
    while before:
        retries = session.execute(_retries_of(job, before)).all()
        sources += [_source(session, each) for each, is_kept in retries if is_kept and _is_like(each, job)]
        before = [each.id for each, _ in retries]
    # the places of a deleted job's items are gone with it
    check_kept(session, sources)
    return sorted(sources, key=lambda source: source.job_id)


def check_kept(session: Session, sources: Sequence[Source]) -> None:
    """See that what was read of them before the transaction was begun is all that they have.

    A table that is not there is taken for one of a claim in which nothing succeeded.

    Raises:
        ResultsExpiredError: results of one were removed since it was found, or are about to be.
    """
    named = Job.id.in_([source.job_id for source in sources])
    kept = set(session.scalars(select(Job.id).where(named, queries.results_kept())))
    for source in sources:
        if source.job_id not in kept:
            raise ResultsExpiredError(f"The results of job_{source.job_id.hex} were removed meanwhile.")


def read_sources(blobs: BlobStore, tenant: str, sources: Sequence[Source]) -> Iterator[pa.Table]:
    """The tables of all of them one after the other, `index` being the place in the version."""
    for source in sources:
        for table in read_tables(blobs, tenant, source.job_id, source.tokens):
            if source.places is None:
                yield table
            else:
                column = table.schema.get_field_index("index")
                placed = pa.array(source.placed(table["index"].to_numpy()), pa.int32())
                yield table.set_column(column, "index", placed)


def _source(session: Session, job: Job) -> Source:
    tokens = session.scalars(tables_of(job.id)).all()
    if job.retry_of is None:
        return Source(job.id, tokens, None)
    places = np.zeros(job.total, dtype=np.int32)
    told = session.execute(FIRST, {"job_id": job.id}).yield_per(ROWS_AT_ONCE)
    for part in told.partitions():
        index, place = np.array(part, dtype=np.int32).T
        places[index] = place
    return Source(job.id, tokens, places)


def _retries_of(job: Job, before: Sequence[uuid.UUID]) -> Select[Job, bool]:
    return select(Job, queries.results_kept()).where(
        Job.tenant == job.tenant, Job.version_id == job.version_id, Job.retry_of.in_(before)
    )


def _is_like(retry: Job, job: Job) -> bool:
    known = [(each.provenance or {}).get("weights_sha256") for each in (retry, job)]
    return None in known or known[0] == known[1]
