"""The duties that end jobs before they are done: those that were cancelled, and those out of time."""

import uuid
from typing import Any, Final

import structlog
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from jobs import fairness
from jobs.cancel import drop_work
from models.job import Job
from models.types import JobState

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
    return _drop(session, select(Job.id).where(Job.state == JobState.CANCELLING), None)


def expire_unstarted(session: Session) -> int:
    """Drop the work of jobs that nobody began in time."""
    late = select(Job.id).where(Job.state == JobState.QUEUED, Job.start_by < func.now())
    return _drop(session, late, UNSTARTED)


def stop_overdue(session: Session) -> int:
    """Drop what still waits of jobs that have run for as long as they may."""
    late = select(Job.id).where(Job.ended_at.is_(None), Job.run_until < func.now())
    return _drop(session, late, TIMED_OUT)


def _drop(session: Session, jobs: Select[uuid.UUID], error: dict[str, Any] | None) -> int:
    dropped = 0
    for job_id in session.scalars(jobs.order_by(Job.id).limit(JOBS_AT_ONCE)).all():
        cost = drop_work(session, job_id, error)
        if cost is not None:
            dropped += 1
            job = session.get_one(Job, job_id)
            # the job's slice and the flow's clock go together here: nobody else holds a clock for long
            fairness.refund(session, fairness.flow_of(job), cost)
            log.info("work.dropped", job_id=str(job_id), why=error["code"] if error else "cancelled")
    return dropped
