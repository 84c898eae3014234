"""The duties that let go of what is past its time: results, their objects, drafts, workers long gone."""

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, defer

from jobs.blobs import BlobStore
from jobs.objects import remove_objects
from models.job import Job, JobEvent, Result
from models.worker import Worker

log = structlog.get_logger()

ROWS_AT_ONCE: Final = 5_000
JOBS_LOOKED_AT: Final = 100
WORKERS_KEPT: Final = timedelta(days=7)


def expire_results(session: Session, blobs: BlobStore) -> int:
    """Remove results whose time is over, a slice of one job: its rows and events, then its objects; it stays.

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
    some = select(Result.index).where(Result.job_id == job.id).order_by(Result.index).limit(ROWS_AT_ONCE)
    removed = session.execute(
        delete(Result).where(Result.job_id == job.id, Result.index.in_(some)).returning(Result.index)
    ).all()
    # there are no more of them than of results: with the last of these the last of them goes
    first = (
        select(JobEvent.settled)
        .where(JobEvent.job_id == job.id)
        .order_by(JobEvent.settled)
        .limit(ROWS_AT_ONCE)
    )
    session.execute(delete(JobEvent).where(JobEvent.job_id == job.id, JobEvent.settled.in_(first)))
    if removed:
        return len(removed)
    # in a folder that is mounted over, there would be nothing to remove, now and for ever
    blobs.check()
    # the folder last: no row refers to it any more
    remove_objects(blobs, job.tenant, job.id)
    session.execute(update(Job).where(Job.id == job.id).values(results_removed_at=func.now()))
    log.info("results.expired", job_id=str(job.id))
    return 1


def forget_workers(session: Session) -> int:
    """Remove the rows of workers that were not heard of for a week."""
    gone = delete(Worker).where(Worker.seen_at < func.now() - WORKERS_KEPT).returning(Worker.id)
    return len(session.execute(gone).all())


def remove_drafts(_: Session, blobs: BlobStore) -> int:
    """Remove files that processes which were killed left half written."""
    removed = blobs.remove_drafts()
    if removed:
        log.info("drafts.removed", files=removed)
    return removed
