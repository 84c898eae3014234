"""The stored results of a job, in pages that each have a short transaction of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from jobs import exports, queries
from jobs.blobs import BlobStore
from jobs.errors import ResultsExpiredError
from jobs.filling import Tables
from models.job import Job, Result
from models.types import JobType

ROWS_AT_ONCE: Final = 64
"""An item has up to 256 kB of JSON, and takes several times as much once it is read."""


@dataclass(frozen=True, slots=True)
class Export:
    """A job as it stood when it was asked for, and where its results are read from: in threads."""

    sessions: sessionmaker[Session]
    blobs: BlobStore
    job: Job

    @property
    def is_lens(self) -> bool:
        """Whether items have scores of labels, and not an embedding."""
        return self.job.type != JobType.EMBEDDING

    def tables(self) -> Tables:
        """Where the numbers lie of results whose rows have none."""
        return Tables(self.blobs, self.job.tenant)


def pages(export: Export) -> Iterator[Sequence[Result]]:
    """All results by index: what was counted when the export began, and what came behind that meanwhile.

    Raises:
        ResultsExpiredError: they were removed while they were read. Nobody is to take a part for the whole.
        NumbersMissingError: their numbers were.
    """
    after, seen = -1, 0
    tables = export.tables()
    while True:
        with export.sessions() as session:
            found = session.scalars(
                queries.results_page(export.job.id, after=after, limit=ROWS_AT_ONCE)
            ).all()
        if page := found[:ROWS_AT_ONCE]:
            seen += len(page)
            after = page[-1].index
            yield [tables.fill(result) for result in page]
        if len(found) <= ROWS_AT_ONCE:
            break
    check_complete(export, seen)


def first_result(export: Export) -> Result | None:
    """The row of the first item that succeeded; none when none has so far."""
    with export.sessions() as session:
        return session.scalar(exports.first_result(export.job.id))


def first_payload(export: Export) -> dict[str, Any]:
    """All that the first item that succeeded says; nothing when none has so far."""
    first = first_result(export)
    return {} if first is None else export.tables().fill(first).payload or {}


def label_names(export: Export) -> list[str]:
    """The labels of the job, in their order."""
    with export.sessions() as session:
        return list(session.scalars(exports.LABEL_NAMES, {"job_id": export.job.id}))


def check_complete(export: Export, seen: int) -> None:
    """Refuse to end a file that has less than was counted.

    Raises:
        ResultsExpiredError: results were removed meanwhile.
    """
    if seen < export.job.succeeded + export.job.failed:
        raise ResultsExpiredError
