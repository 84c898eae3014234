"""The duty that does what somebody wished to be done to many jobs, a slice at a time.

Whoever does a slice holds the duty's lock for SLICE_SECONDS at most, and whatever a slice takes is bounded so
that it ends before: else another process would begin with the same one.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from psycopg.errors import QueryCanceled, TransactionTimeout
from sqlalchemy import func, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from engine.errors import EngineError
from jobs import retry, transitions
from jobs.actions import in_turns, load
from jobs.admission import Quota, give_back_unless_stored
from jobs.broker import Inviter
from jobs.cancel import cancel
from jobs.deletion import delete_job
from jobs.errors import DomainError, QueueFullError, QuotaExceededError
from jobs.listing import job_ids
from jobs.retry import Retry, RetryScope
from jobs.units import Admission
from jobs.usage import count_job
from models.job import Job
from models.job_action import JobAction
from models.types import ActionState, ActionVerb

log = structlog.get_logger()

JOBS_AT_ONCE: Final[Mapping[ActionVerb, int]] = {
    ActionVerb.CANCEL: 200,
    ActionVerb.DELETE: 20,
    ActionVerb.RETRY: 1,
}
"""A slice. A job that is tried again may have as many items as many jobs."""
SLICE_SECONDS: Final = 75
"""So long one may take: a job of a million items is not stored in the seconds that other duties have.

It is more than what is below comes to: an action is looked for and its turn noted, then a job is admitted,
stored, given back and passed over; or jobs are held, and of the last one begun two statements are long.
"""
STATEMENT_SECONDS: Final = 18
"""So long one statement: two of a job take long, and must not take all the time that its transaction has."""
BEGIN_SECONDS: Final = 10
"""After so long no further action is looked at, and no further job of a slice is begun."""
STORE_SECONDS: Final = 40
"""So long the transaction that stores a job that is tried again."""
SHORT_SECONDS: Final = 5
"""So long one that stores no job, and so long whoever holds what is needed is waited for."""
NOT_OF_A_JOB: Final = ("08", "40", "53", "55P03", "57P", "58")
"""What SQLSTATE begins with where the database is at fault or busy: the slice is done again later."""


class OvertakenError(Exception):
    """Another process has gone on with the action: this one was away for longer than its lock holds."""


class OutlastedError(Exception):
    """A job takes longer to store than its transaction has."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The duty that does a slice of the first action in turn that can go on.

    It has its lock by the session that it is called with, and beside it transactions of its own.
    """

    sessions: sessionmaker[Session]
    catalog: Catalog
    quota: Quota
    waiting_items: Callable[[], int]
    inviter: Inviter

    def __call__(self, session: Session) -> int:
        """Returns how many jobs it came to, or 1 for an action that has ended."""
        until = time.monotonic() + BEGIN_SECONDS
        for action in session.scalars(in_turns()).all():
            if time.monotonic() > until:
                break
            # also one that has to wait has had its turn
            with self._begin(SHORT_SECONDS) as own:
                _note(own, action, advanced_at=func.clock_timestamp())
            if came_to := self._go_on(session, action):
                return came_to
        return 0

    def _go_on(self, session: Session, action: JobAction) -> int:
        """Do a slice of an action; 0 when it has to wait for room in the queue."""
        verb = ActionVerb(action.verb)
        several = job_ids(
            action.tenant,
            load(action.filter),
            before=action.position,
            up_to=action.up_to,
            # one that ended since may be found only now, and nobody has counted it
            ended_by=None if verb is ActionVerb.CANCEL else action.created_at,
            limit=JOBS_AT_ONCE[verb],
        )
        found = session.scalars(several).all()
        if not found:
            skipped = func.greatest(JobAction.skipped, JobAction.matched - JobAction.done)
            _note(session, action, state=ActionState.DONE, ended_at=func.now(), skipped=skipped)
            log.info("action.ended", action_id=str(action.id), verb=verb)
            return 1
        if verb is ActionVerb.RETRY:
            return self._retry(action, found[0])
        return _do_slice(session, action, verb, found)

    def _retry(self, action: JobAction, job_id: uuid.UUID) -> int:
        """Try one job again and go on behind it; 0 when it has to wait."""
        error = None
        try:
            wanted, admission = self._admit(action, job_id)
            job = self._store(action, wanted, admission)
        except (QuotaExceededError, QueueFullError):
            return 0
        except (DomainError, EngineError) as refused:
            _log_skipped(action, job_id, refused)
        except Exception as fault:
            if not _of_a_job(fault):
                raise
            error = _told(action, job_id, fault)
        else:
            self.inviter.invite(job.model, job.id)
            return 1
        with self._begin(SHORT_SECONDS) as session:
            _note(
                session, action, position=job_id, skipped=JobAction.skipped + 1, error=action.error or error
            )
        return 1

    def _admit(self, action: JobAction, job_id: uuid.UUID) -> tuple[Retry, Admission]:
        with self._begin(SHORT_SECONDS) as session:
            wanted = retry.find_retry(session, action.tenant, job_id, RetryScope.FAILED_ITEMS, action.key_id)
            admission = retry.admit_retry(
                session,
                wanted,
                self.catalog,
                self.quota,
                reserve_as=str(action.id),
                waiting_items=self.waiting_items(),
            )
            return wanted, admission

    def _store(self, action: JobAction, wanted: Retry, admission: Admission) -> Job:
        """Store the job, and with it that the action has come behind the one that it tries again."""
        try:
            with self._begin(STORE_SECONDS) as session:
                job = retry.store_retry(session, wanted, admission)
                _note(session, action, position=wanted.job.id, done=JobAction.done + 1)
                if action.key_id is not None:
                    # last: those who count for the same key wait until the commit
                    count_job(session, action.key_id, job.total, job.cost)
        except BaseException as fault:
            self._give_back(admission, wanted.submission.size)
            if isinstance(fault, DBAPIError) and isinstance(fault.orig, TransactionTimeout):
                # it ends the connection as a lost database does, and would happen again at the same job
                raise OutlastedError from fault
            raise
        log.info(
            "job.submitted",
            action_id=str(action.id),
            request_id=job.request_id,
            job_id=str(job.id),
            model=job.model,
            items=job.total,
        )
        return job

    def _give_back(self, admission: Admission, items: int) -> None:
        try:
            with self._begin(SHORT_SECONDS) as session:
                give_back_unless_stored(session, admission, items)
        except SQLAlchemyError as error:
            # what was set aside ends by itself; the next work of the flow waits for a little longer
            log.warning("refund.lost", model=admission.flow.model, error=type(error).__name__)

    @contextmanager
    def _begin(self, seconds: int) -> Iterator[Session]:
        """A transaction that is over after so many seconds."""
        with self.sessions.begin() as session:
            _limit(session, f"SET LOCAL transaction_timeout = '{seconds}s'")
            yield session


def _do_slice(session: Session, action: JobAction, verb: ActionVerb, found: Sequence[uuid.UUID]) -> int:
    """Cancel or delete some of the jobs, as many as there is time for; returns how many it came to."""
    until = time.monotonic() + BEGIN_SECONDS
    _limit(session)
    # all at once and in the order of their ids, as whoever counts items holds them
    session.execute(transitions.HOLD_JOBS, {"job_ids": sorted(found)})
    begun, done, error = 0, 0, action.error
    for job_id in found:
        if begun and time.monotonic() > until:
            break
        begun += 1
        try:
            # what is refused must leave nothing behind
            with session.begin_nested():
                if verb is ActionVerb.CANCEL:
                    # its work is dropped by `deadlines.continue_cancels`
                    cancel(session, action.tenant, job_id)
                else:
                    delete_job(session, action.tenant, job_id)
            done += 1
        except (DomainError, EngineError) as refused:
            _log_skipped(action, job_id, refused)
        except Exception as fault:
            if not _of_a_job(fault):
                raise
            error = error or _told(action, job_id, fault)
    _note(
        session,
        action,
        position=found[begun - 1],
        done=JobAction.done + done,
        skipped=JobAction.skipped + begun - done,
        error=error,
    )
    return begun


def _limit(session: Session, *beside: str) -> None:
    """Bound what a statement takes, and how long it waits for whoever holds what it needs."""
    limits = (
        f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'",
        f"SET LOCAL lock_timeout = '{SHORT_SECONDS}s'",
    )
    session.execute(text("; ".join((*limits, *beside))))


def _log_skipped(action: JobAction, job_id: uuid.UUID, refused: DomainError | EngineError) -> None:
    log.info("action.skipped", action_id=str(action.id), job_id=str(job_id), code=refused.code)


def _of_a_job(fault: Exception) -> bool:
    """Whether it would happen again at the same job; a lost or busy database is no fault of any."""
    if not isinstance(fault, DBAPIError):
        return not isinstance(fault, SQLAlchemyError | OvertakenError)
    state = getattr(fault.orig, "sqlstate", None)
    return not fault.connection_invalidated and state is not None and not state.startswith(NOT_OF_A_JOB)


def _told(action: JobAction, job_id: uuid.UUID, fault: Exception) -> dict[str, Any]:
    """A failure as it is kept: what exactly went wrong is for the log."""
    log.error("action.failed_at", action_id=str(action.id), job_id=str(job_id), exc_info=fault)
    cut_off = isinstance(fault, DBAPIError) and isinstance(fault.orig, QueryCanceled)
    if cut_off or isinstance(fault, OutlastedError):
        return {"code": "timed-out", "message": "The job is too large for it.", "job_id": str(job_id)}
    return {"code": "internal", "message": "The service failed at this job.", "job_id": str(job_id)}


def _note(session: Session, action: JobAction, **values: Any) -> None:
    """Write how far the action is.

    Raises:
        OvertakenError: it is not where it was when it was read.
    """
    changed = (
        update(JobAction)
        .where(JobAction.id == action.id, JobAction.position.is_not_distinct_from(action.position))
        .values(**values)
        .returning(JobAction.id)
    )
    if session.scalar(changed.execution_options(synchronize_session=False)) is None:
        raise OvertakenError
