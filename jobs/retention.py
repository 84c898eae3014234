"""The duties that let go of what is past its time: results, drafts, deleted jobs and sets, usage."""

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
from models.cached_result import CachedResult
from models.image_set import ImageSet, ImageSetItem, ImageSetVersion
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
    numbered = [Result.index, CachedResult.index, JobEvent.settled]
    if job.deleted_at is not None:
        numbered.append(Attempt.unit)
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


def forget_sets(session: Session) -> int:
    """Remove the rows of a deleted image set, a slice of one version: from then on its pictures can go too.

    A version that a job is still at, computing over it or adding to it, is left until that has ended.
    """
    at_it = select(Job.id).where(Job.version_id == ImageSetVersion.id, Job.ended_at.is_(None))
    version_id = session.scalar(
        select(ImageSetVersion.id)
        .join(ImageSet, ImageSet.id == ImageSetVersion.set_id)
        .where(ImageSet.deleted_at.is_not(None), ~at_it.exists())
        .order_by(ImageSet.deleted_at)
        .limit(1)
    )
    if version_id is not None:
        return _remove_items(session, version_id) or _remove_version(session, version_id)
    left = select(ImageSetVersion.id).where(ImageSetVersion.set_id == ImageSet.id)
    over = select(ImageSet.id).where(ImageSet.deleted_at.is_not(None), ~left.exists()).limit(ROWS_AT_ONCE)
    gone = delete(ImageSet).where(ImageSet.id.in_(over)).returning(ImageSet.id)
    return len(session.execute(gone.execution_options(synchronize_session=False)).all())


def _remove_items(session: Session, version_id: uuid.UUID) -> int:
    of_version = ImageSetItem.version_id == version_id
    some = select(ImageSetItem.index).where(of_version).order_by(ImageSetItem.index).limit(ROWS_AT_ONCE)
    removed = delete(ImageSetItem).where(of_version, ImageSetItem.index.in_(some))
    found = session.execute(
        removed.returning(ImageSetItem.index).execution_options(synchronize_session=False)
    )
    return len(found.all())


def _remove_version(session: Session, version_id: uuid.UUID) -> int:
    session.execute(delete(ImageSetVersion).where(ImageSetVersion.id == version_id))
    log.info("image_set_version.removed", version_id=str(version_id))
    return 1


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
