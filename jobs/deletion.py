"""Deleting a job: unknown but for that it was there, at once; what it leaves behind goes by a duty."""

import uuid

from sqlalchemy import delete, func, update
from sqlalchemy.orm import Session

from jobs import queries
from jobs.errors import JobDeletedError, NotEndedError, NotFoundError
from models.job import Job, JobInput


def existing(job: Job | None) -> Job:
    """The job, if there is one that was not deleted.

    Raises:
        NotFoundError: there is none.
        JobDeletedError: it was deleted.
    """
    if job is None:
        raise NotFoundError
    if job.deleted_at is not None:
        raise JobDeletedError
    return job


def delete_job(session: Session, tenant: str, job_id: uuid.UUID) -> None:
    """Delete a job that ended, with all that was asked for; the caller commits.

    Its pictures are free at once. Its results, with their objects and history, count as expired and go by
    `jobs.retention`. Deleting again changes nothing.

    Raises:
        NotFoundError: the tenant has no such job.
        NotEndedError: it has not ended.
    """
    job = session.scalar(queries.job_of(tenant, job_id).with_for_update(key_share=True))
    if job is None:
        raise NotFoundError
    if job.ended_at is None:
        raise NotEndedError
    if job.deleted_at is not None:
        return
    session.execute(delete(JobInput).where(JobInput.job_id == job_id))
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(
            deleted_at=func.now(),
            options={},
            tags={},
            error=None,
            provenance=None,
            # also where they had gone before: what is left beside them goes in the same way
            expires_at=func.now(),
            results_removed_at=None,
        )
        .execution_options(synchronize_session=False)
    )
