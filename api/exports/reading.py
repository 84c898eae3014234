"""The stored results of a job, in pages that each have a short transaction of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from jobs import exports, queries
from jobs.errors import ResultsExpiredError
from models.job import Job, Result
from models.types import JobType

ROWS_AT_ONCE: Final = 64
"""An item has up to 256 kB of JSON, and takes several times as much once it is read."""


@dataclass(frozen=True, slots=True)
class Export:
    """A job as it stood when it was asked for, and where its results are read from: in threads."""

    sessions: sessionmaker[Session]
    job: Job

    @property
    def is_lens(self) -> bool:
        """Whether items have scores of labels, and not an embedding."""
        return self.job.type != JobType.EMBEDDING


def pages(export: Export) -> Iterator[Sequence[Result]]:
    """All results by index: what was counted when the export began, and what came behind that meanwhile.

    Raises:
        ResultsExpiredError: they were removed while they were read. Nobody is to take a part for the whole.
    """
    after, seen = -1, 0
    while True:
        with export.sessions() as session:
            found = session.scalars(
                queries.results_page(export.job.id, after=after, limit=ROWS_AT_ONCE)
            ).all()
        if page := found[:ROWS_AT_ONCE]:
            seen += len(page)
            after = page[-1].index
            yield page
        if len(found) <= ROWS_AT_ONCE:
            break
    check_complete(export, seen)


def first_payload(export: Export) -> dict[str, Any]:
    """What was stored of the first item that succeeded; nothing when none has so far."""
    with export.sessions() as session:
        return session.scalar(exports.first_payload(export.job.id)) or {}


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
