"""What is done to many jobs at once: cancelled, tried again or deleted, a slice at a time, newest first.

An action is about the jobs that its filter found when it was accepted; what was submitted later is left
alone. A job that has come into another state by then is skipped: of what its filter finds no more nothing is
done.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from psycopg.errors import QueryCanceled
from sqlalchemy import Select, func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from engine.errors import EngineError
from jobs import retry, transitions
from jobs.admission import Quota, admit
from jobs.broker import Inviter
from jobs.cancel import cancel
from jobs.deletion import delete_job
from jobs.errors import (
    CountDiffersError,
    DomainError,
    EmptyFilterError,
    QueueFullError,
    QuotaExceededError,
    TooManyActionsError,
    TooManyJobsError,
)
from jobs.listing import JobFilter, job_ids
from jobs.retry import RetryScope
from jobs.usage import count_job
from models.job_action import JobAction
from models.types import ActionState, ActionVerb, JobState, JobType

log = structlog.get_logger()

MAX_JOBS: Final = 100_000
"""Of one action; no more are counted."""
MAX_RUNNING: Final = 100
"""Actions of one tenant at once; what is sent in the same moment may go a little beyond."""
ACTIONS_LOOKED_AT: Final = 20
JOBS_AT_ONCE: Final[Mapping[ActionVerb, int]] = {
    ActionVerb.CANCEL: 200,
    ActionVerb.DELETE: 20,
    ActionVerb.RETRY: 1,
}
"""A slice. A job that is tried again takes its flow's clock, of which a transaction takes one at most."""
SLICE_SECONDS: Final = 60
"""So long one may take: a job of a million items is not stored in the seconds that other duties have."""

STATEMENT_SECONDS: Final = 25
"""So long one statement: two of them must not end the whole slice, or it would come to nothing for ever."""
BEGIN_SECONDS: Final = 10
"""After so long no further job of a slice is begun."""
NOT_OF_A_JOB: Final = ("08", "40", "53", "57P", "58")
"""What SQLSTATE begins with where the database is at fault or busy: the slice is done again later."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done, to which jobs, and why; `expected` is how many the client has seen."""

    verb: ActionVerb
    wanted: JobFilter
    expected: int
    reason: str | None = None


def count(session: Session, tenant: str, wanted: JobFilter) -> int:
    """How many jobs a filter finds; MAX_JOBS + 1 stands for all that are more.

    Raises:
        EmptyFilterError: it would find all there are.
    """
    return _look(session, tenant, wanted)[0]


def accept(
    session: Session,
    tenant: str,
    wish: Wish,
    *,
    key_id: uuid.UUID | None = None,
    action_id: uuid.UUID | None = None,
) -> JobAction:
    """Take note of what is to be done; the caller commits, and `act` does it.

    Raises:
        EmptyFilterError: the filter would find all there are.
        CountDiffersError: it finds another number of jobs than the client has seen.
        TooManyJobsError: it finds more than one action may be about.
        TooManyActionsError: as many of the tenant's run as may.
    """
    running = select(JobAction.id).where(JobAction.tenant == tenant, JobAction.state == ActionState.RUNNING)
    if session.scalar(select(func.count()).select_from(running.limit(MAX_RUNNING).subquery())) == MAX_RUNNING:
        raise TooManyActionsError
    found, newest = _look(session, tenant, wish.wanted)
    if found > MAX_JOBS:
        raise TooManyJobsError(pointer="/filter")
    if found != wish.expected:
        raise CountDiffersError(f"The filter finds {found} jobs, not {wish.expected}: look again.")
    action = JobAction(
        id=action_id,
        tenant=tenant,
        key_id=key_id,
        verb=wish.verb,
        filter=dump(wish.wanted),
        reason=wish.reason,
        matched=found,
        up_to=newest or uuid.UUID(int=0),
    )
    session.add(action)
    session.flush()
    return action


def _look(session: Session, tenant: str, wanted: JobFilter) -> tuple[int, uuid.UUID | None]:
    """How many jobs a filter finds, and the newest of these very ones: both in one statement."""
    if wanted == JobFilter():
        raise EmptyFilterError(pointer="/filter")
    found = job_ids(tenant, wanted, limit=MAX_JOBS + 1).cte("found")
    newest = select(found.c.id).order_by(found.c.id.desc()).limit(1).scalar_subquery()
    row = session.execute(select(func.count(), newest).select_from(found)).one()
    return row[0], row[1]


def action_of(tenant: str, action_id: uuid.UUID) -> Select[JobAction]:
    """An action, if it is the tenant's."""
    return select(JobAction).where(JobAction.id == action_id, JobAction.tenant == tenant)


def actions_page(tenant: str, *, before: uuid.UUID | None, limit: int) -> Select[JobAction]:
    """A tenant's actions, newest first: one more than `limit`, to tell what follows."""
    found = select(JobAction).where(JobAction.tenant == tenant).order_by(JobAction.id.desc()).limit(limit + 1)
    return found if before is None else found.where(JobAction.id < before)


def in_turns() -> Select[JobAction]:
    """The oldest running action of each tenant and verb; first the one whose last turn is longest ago."""
    oldest = (
        select(JobAction.id)
        .where(JobAction.state == ActionState.RUNNING)
        .ext(distinct_on(JobAction.tenant, JobAction.verb))
        .order_by(JobAction.tenant, JobAction.verb, JobAction.id)
    )
    return (
        select(JobAction)
        .where(JobAction.id.in_(oldest))
        .order_by(JobAction.advanced_at, JobAction.id)
        .limit(ACTIONS_LOOKED_AT)
    )


@dataclass(frozen=True, slots=True)
class Actor:
    """The duty that does a slice of the first action in turn that can go on."""

    catalog: Catalog
    quota: Quota
    waiting_items: Callable[[], int]
    inviter: Inviter

    def __call__(self, session: Session) -> int:
        """Returns how many jobs it came to, or 1 for an action that has ended."""
        for action in session.scalars(in_turns()).all():
            # also one that has to wait has had its turn
            _note(session, action, advanced_at=func.clock_timestamp())
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
        session.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"))
        # all at once and in the order of their ids, as whoever counts items holds them
        session.execute(transitions.HOLD_JOBS, {"job_ids": sorted(found)})
        begun, done, error = 0, 0, action.error
        until = time.monotonic() + BEGIN_SECONDS
        for job_id in found:
            if begun and time.monotonic() > until:
                break
            begun += 1
            try:
                # what is refused must leave nothing behind
                with session.begin_nested():
                    self._act(session, action, verb, job_id)
                done += 1
            except (QuotaExceededError, QueueFullError):
                return 0
            except (DomainError, EngineError) as refused:
                log.info("action.skipped", action_id=str(action.id), job_id=str(job_id), code=refused.code)
            except Exception as fault:
                if not _of_a_job(fault):
                    raise
                log.exception("action.failed_at", action_id=str(action.id), job_id=str(job_id))
                error = error or _told(fault, job_id)
        _note(
            session,
            action,
            position=found[begun - 1],
            done=JobAction.done + done,
            skipped=JobAction.skipped + begun - done,
            error=error,
        )
        return begun

    def _act(self, session: Session, action: JobAction, verb: ActionVerb, job_id: uuid.UUID) -> None:
        if verb is ActionVerb.CANCEL:
            # its work is dropped by `deadlines.continue_cancels`
            cancel(session, action.tenant, job_id)
        elif verb is ActionVerb.DELETE:
            delete_job(session, action.tenant, job_id)
        else:
            self._retry(session, action, job_id)

    def _retry(self, session: Session, action: JobAction, job_id: uuid.UUID) -> None:
        found = retry.find_retry(session, action.tenant, job_id, RetryScope.FAILED_ITEMS, action.key_id)
        admission = admit(
            session,
            action.tenant,
            found.submission,
            self.catalog,
            self.quota,
            input_bytes=found.input_bytes,
            waiting_items=self.waiting_items(),
        )
        job = retry.store_retry(session, found, admission)
        if action.key_id is not None:
            count_job(session, action.key_id, job.total, job.cost)
        # before the commit: a worker that comes too early finds nothing, and is invited again by a duty
        self.inviter.invite(job.model, job.id)


def dump(wanted: JobFilter) -> dict[str, Any]:
    """A filter as it is kept, and shown: only what it says."""
    times = {"created_after": wanted.created_after, "created_before": wanted.created_before}
    said = {
        "state": sorted(wanted.states),
        "type": sorted(wanted.types),
        "model": sorted(wanted.models),
        "tags": dict(wanted.tags),
        **{name: time and time.isoformat() for name, time in times.items()},
    }
    return {name: value for name, value in said.items() if value}


def load(said: Mapping[str, Any]) -> JobFilter:
    """The filter that was kept."""
    return JobFilter(
        states=frozenset(map(JobState, said.get("state", ()))),
        types=frozenset(map(JobType, said.get("type", ()))),
        models=frozenset(said.get("model", ())),
        tags=said.get("tags", {}),
        created_after=_time(said.get("created_after")),
        created_before=_time(said.get("created_before")),
    )


def _time(said: str | None) -> datetime | None:
    return None if said is None else datetime.fromisoformat(said)


def _of_a_job(fault: Exception) -> bool:
    """Whether it would happen again at the same job; a lost or busy database is no fault of any."""
    if not isinstance(fault, DBAPIError):
        return True
    state = getattr(fault.orig, "sqlstate", None)
    return not fault.connection_invalidated and state is not None and not state.startswith(NOT_OF_A_JOB)


def _told(fault: Exception, job_id: uuid.UUID) -> dict[str, Any]:
    """A failure as it is kept: what exactly went wrong is for the log."""
    if isinstance(fault, DBAPIError) and isinstance(fault.orig, QueryCanceled):
        return {"code": "timed-out", "message": "The job is too large for it.", "job_id": str(job_id)}
    return {"code": "internal", "message": "The service failed at this job.", "job_id": str(job_id)}


def _note(session: Session, action: JobAction, **values: Any) -> None:
    changed = update(JobAction).where(JobAction.id == action.id).values(**values)
    session.execute(changed.execution_options(synchronize_session=False))
