"""The duties that end jobs before they are done: those that were cancelled, and those out of time."""

from collections import defaultdict
from dataclasses import astuple
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from jobs import fairness
from jobs.cancel import DROPPED_AT_ONCE, drop_work
from jobs.fairness import FlowKey
from models.job import Job
from models.types import JobState, Priority
from models.work import Work

log = structlog.get_logger()

JOBS_AT_ONCE: Final = 20
UNSTARTED: Final[dict[str, Any]] = {
    "code": "start-deadline",
    "message": "No worker had begun it within `start_within_s`.",
    "retryable": True,
}
TIMED_OUT: Final[dict[str, Any]] = {
    "code": "run-timeout",
    "message": "It had run for `run_timeout_s`; what was not done by then was dropped.",
    "retryable": True,
}


def continue_cancels(session: Session) -> int:
    """Drop the waiting work of jobs that are being cancelled, a slice of each."""
    return _drop(session, Job.state == JobState.CANCELLING, None)


def expire_unstarted(session: Session) -> int:
    """Drop the work of jobs that nobody began in time."""
    # a claim that found the job held could not mark it running: what is leased has been begun
    begun = exists().where(Work.job_id == Job.id, Work.lease_token.is_not(None))
    return _drop(session, (Job.state == JobState.QUEUED) & (Job.start_by < func.now()) & ~begun, UNSTARTED)


def stop_overdue(session: Session) -> int:
    """Drop what still waits of jobs that have run for as long as they may."""
    # ended_at as well: by it the index is found
    late = (Job.state == JobState.RUNNING) & Job.ended_at.is_(None) & (Job.run_until < func.now())
    return _drop(session, late, TIMED_OUT)


def _drop(session: Session, ending: ColumnElement[bool], error: dict[str, Any] | None) -> int:
    """Drop a slice of what waits of the jobs; those of which all is leased must not hide the others.

    The jobs are held while it is decided, so that none begins in between; nobody is waited for.
    """
    waits = exists().where(Work.job_id == Job.id, Work.lease_token.is_(None))
    jobs = session.execute(
        select(Job.id, Job.model, Job.tenant, Job.priority)
        .where(ending, waits)
        .order_by(Job.id)
        .limit(JOBS_AT_ONCE)
        .with_for_update(key_share=True, of=Job, skip_locked=True)
    ).all()
    refunds: dict[FlowKey, float] = defaultdict(float)
    for job in jobs:
        cost = drop_work(session, job.id, error, limit=DROPPED_AT_ONCE // len(jobs))
        if cost is not None:
            refunds[FlowKey(job.model, job.tenant, Priority(job.priority))] += cost
            log.info("work.dropped", job_id=str(job.id), why=error["code"] if error else "cancelled")
    # the flows last and in one order: two duties that pay back to the same flows must not wait in a circle
    for flow in sorted(refunds, key=astuple):
        fairness.refund(session, flow, refunds[flow])
    return len(refunds)
