"""Ending a job before it is done: cancelled by its owner, or out of time."""

import uuid
from typing import Any

from sqlalchemy.orm import Session

from jobs import queries, transitions
from jobs.deletion import existing
from jobs.errors import AlreadyEndedError
from jobs.leases import Count, count_items
from models.job import Job
from models.types import JobState

DROPPED_AT_ONCE = 5_000
"""Units dropped in one transaction: a job of a million items is cancelled in slices."""


def cancel(session: Session, tenant: str, job_id: uuid.UUID) -> Job:
    """Mark a job as being cancelled, whoever works on it; the caller commits, then drops its waiting work.

    Cancelling again is the same; so is cancelling what was cancelled.

    Raises:
        NotFoundError, JobDeletedError: the tenant has no such job, or has it no more.
        AlreadyEndedError: it ended in another way before.
    """
    session.execute(transitions.CANCEL, {"job_id": job_id, "tenant": tenant})
    job = existing(session.scalar(queries.job_of(tenant, job_id)))
    if job.state not in {JobState.CANCELLING, JobState.CANCELLED}:
        raise AlreadyEndedError(f"The job has ended already: it {job.state}.")
    return job


def drop_work(
    session: Session, job_id: uuid.UUID, error: dict[str, Any] | None = None, *, limit: int = DROPPED_AT_ONCE
) -> float | None:
    """Drop some of a job's waiting work and count its items; the cost it was charged, None when none waits.

    Drops at most `limit` units: to be called again, in a new transaction, until None.
    """
    dropped = session.execute(transitions.DROP_WORK, {"job_id": job_id, "limit": limit}).all()
    if not dropped:
        return None
    count_items(session, {job_id: Count(dropped=sum(row.items for row in dropped), error=error)})
    return float(sum(row.cost for row in dropped))
