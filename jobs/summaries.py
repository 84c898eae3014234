"""Summaries: asked for over a job on an image set that has ended, made by an analyst as a job of its own."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session

from jobs import queries
from jobs.analysis_jobs import Wanted, store_job
from jobs.deletion import existing
from jobs.errors import (
    NotEndedError,
    NothingToSummariseError,
    NotOverSetError,
    ResultsExpiredError,
)
from models.job import Job
from models.types import JobType

GFLOP_PER_ITEM: Final = 0.1
"""Of a summarised item: half a millisecond of a worker that has measured nothing yet."""


@dataclass(frozen=True, slots=True)
class SummaryTerms:
    """What is said beside the job that is to be summarised, or the two that are to be set side by side."""

    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    key_id: uuid.UUID | None = None


def submit_summary(
    session: Session,
    tenant: str,
    of: uuid.UUID,
    terms: SummaryTerms,
    *,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store a job that summarises another one; the caller commits, then invites the workers of `analysis`.

    Raises:
        NotFoundError, JobDeletedError: the tenant has no such job, or has it no more.
        NotOverSetError: it is no lens over an image set.
        NotEndedError: it still runs.
        ResultsExpiredError: its results were removed.
        NothingToSummariseError: nothing of it succeeded.
    """
    # held: its results cannot be removed before this is committed
    job = existing(session.scalar(queries.whole_job_of(tenant, of).with_for_update(read=True)))
    version_id = check_summarisable(job)
    wanted = Wanted(
        type=JobType.SUMMARY,
        items=[{"kind": "job", "custom_id": f"job_{job.id.hex}"}],
        options={"job_id": str(job.id), "seed": terms.seed},
        item_gflop=job.total * GFLOP_PER_ITEM,
        version_id=version_id,
        tags=terms.tags,
        key_id=terms.key_id,
    )
    return store_job(session, tenant, wanted, job_id=job_id)


def check_summarisable(job: Job, pointer: str | None = None) -> uuid.UUID:
    """The version of a job that says something of a whole set; `pointer` is where the request names it.

    Raises:
        NotOverSetError: it is no lens over an image set.
        NotEndedError: it still runs.
        ResultsExpiredError: its results were removed.
        NothingToSummariseError: nothing of it succeeded.
    """
    if job.type != JobType.LOGIT_LENS or job.version_id is None:
        raise NotOverSetError(pointer=pointer)
    if job.ended_at is None:
        raise NotEndedError("That job has not ended yet: ask again when it is done.", pointer=pointer)
    if job.results_removed_at is not None:
        raise ResultsExpiredError(pointer=pointer)
    if job.succeeded == 0:
        raise NothingToSummariseError(pointer=pointer)
    return job.version_id
