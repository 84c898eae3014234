"""The duties that let go of what is past its time: results, objects, drafts, deleted jobs, workers, usage."""

import uuid
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, defer

from jobs.blobs import BlobStore
from jobs.copies import remove_copies
from jobs.objects import remove_objects
from models.api_key import KeyUsage
from models.job import Job, JobEvent, Result
from models.work import Attempt
from models.worker import Worker

log = structlog.get_logger()

ROWS_AT_ONCE: Final = 5_000
JOBS_LOOKED_AT: Final = 100
WORKERS_KEPT: Final = timedelta(days=7)
DELETED_JOBS_KEPT: Final = timedelta(days=30)
"""So long it is told of a deleted job that it was deleted; then its id is unknown."""
USAGE_KEPT: Final = timedelta(days=800)
"""So long it is told what a key did on a day: a year can be compared with the one before."""


def expire_results(session: Session, blobs: BlobStore) -> int:
    """Remove results whose time is over, a slice of one job: its rows and events, then its objects; it stays.

    Of a job that was deleted, its history goes with them.

    A job whose objects cannot be removed is passed over: it is tried again, and does not hold up the others.

    Raises:
        BlobStoreMissingError: there are objects to remove, and the blob store is not there.
    """
    over = (
        select(Job)
        .options(defer(Job.options, raiseload=True))
        .where(Job.expires_at < func.now(), Job.results_removed_at.is_(None))
        .order_by(Job.expires_at)
        .limit(JOBS_LOOKED_AT)
    )
    for job in session.scalars(over).all():
        try:
            return _remove_some(session, blobs, job)
        except OSError as error:
            log.error("results.not_removed", job_id=str(job.id), error=str(error))  # noqa: TRY400 - it says all
    return 0


def _remove_some(session: Session, blobs: BlobStore, job: Job) -> int:
    numbered = [Result.index, JobEvent.settled, *([] if job.deleted_at is None else [Attempt.unit])]
    for number in numbered:
        if removed := _remove_rows(session, job.id, number):
            return removed
    # in a folder that is mounted over, there would be nothing to remove, now and for ever
    blobs.check()
    # the folder last: no row refers to it any more
    remove_copies(blobs, job.tenant, job.id)
    remove_objects(blobs, job.tenant, job.id)
    session.execute(update(Job).where(Job.id == job.id).values(results_removed_at=func.now()))
    log.info("results.expired", job_id=str(job.id))
    return 1


def _remove_rows(session: Session, job_id: uuid.UUID, number: InstrumentedAttribute[int]) -> int:
    """Remove the first rows of a job in a table where this numbers them; returns how many went."""
    table = number.class_
    some = select(number).where(table.job_id == job_id).order_by(number).limit(ROWS_AT_ONCE)
    removed = delete(table).where(table.job_id == job_id, number.in_(some)).returning(number)
    return len(session.execute(removed.execution_options(synchronize_session=False)).all())


def forget_deleted(session: Session, kept: timedelta) -> int:
    """Remove the rows of jobs that were deleted so long ago, and of which nothing else is left."""
    over = (
        select(Job.id)
        .where(Job.deleted_at < func.now() - kept, Job.results_removed_at.is_not(None))
        .order_by(Job.deleted_at)
        .limit(JOBS_LOOKED_AT)
        .with_for_update(skip_locked=True)
    )
    gone = delete(Job).where(Job.id.in_(over)).returning(Job.id)
    return len(session.execute(gone.execution_options(synchronize_session=False)).all())


def forget_workers(session: Session) -> int:
    """Remove the rows of workers that were not heard of for a week."""
    gone = delete(Worker).where(Worker.seen_at < func.now() - WORKERS_KEPT).returning(Worker.id)
    return len(session.execute(gone).all())


def forget_usage(session: Session) -> int:
    """Remove what keys did on days that are so long ago, a slice; returns how many days of keys."""
    over = (
        select(KeyUsage.key_id, KeyUsage.day)
        .where(KeyUsage.day < func.current_date() - USAGE_KEPT.days)
        .order_by(KeyUsage.day)
        .limit(ROWS_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("over")
    )
    gone = (
        delete(KeyUsage)
        .where(KeyUsage.key_id == over.c.key_id, KeyUsage.day == over.c.day)
        .returning(KeyUsage.day)
    )
    return len(session.execute(gone.execution_options(synchronize_session=False)).all())


def remove_drafts(_: Session, blobs: BlobStore) -> int:
    """Remove files that processes which were killed left half written."""
    removed = blobs.remove_drafts()
    if removed:
        log.info("drafts.removed", files=removed)
    return removed
