"""What is done to many jobs at once: cancelled, tried again or deleted, newest first, see `jobs.acting`.

An action is about the jobs that its filter found when it was accepted; what was submitted later is left
alone. A job that has come into another state by then is skipped: of what its filter finds no more nothing is
done.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from jobs.errors import CountDiffersError, EmptyFilterError, TooManyActionsError, TooManyJobsError
from jobs.listing import JobFilter, job_ids
from models.job_action import JobAction
from models.types import ActionState, ActionVerb, JobState, JobType

MAX_JOBS: Final = 100_000
"""Of one action; no more are counted."""
MAX_RUNNING: Final = 100
"""Actions of one tenant at once; what is sent in the same moment may go a little beyond."""
ACTIONS_LOOKED_AT: Final = 20
AUDITED: Final = {
    ActionVerb.CANCEL: "jobs.cancelled",
    ActionVerb.RETRY: "jobs.retried",
    ActionVerb.DELETE: "jobs.deleted",
}
"""What the audit says of each."""


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
    """Take note of what is to be done; the caller commits, and `jobs.acting` does it.

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


def action_of(tenant: str | None, action_id: uuid.UUID) -> Select[JobAction]:
    """An action, if it is the tenant's, or whosever it is (None)."""
    found = select(JobAction).where(JobAction.id == action_id)
    return found if tenant is None else found.where(JobAction.tenant == tenant)


def actions_page(tenant: str, *, before: uuid.UUID | None, limit: int) -> Select[JobAction]:
    """A tenant's actions, newest first: one more than `limit`, to tell what follows."""
    found = select(JobAction).where(JobAction.tenant == tenant).order_by(JobAction.id.desc()).limit(limit + 1)
    return found if before is None else found.where(JobAction.id < before)


def running_actions(tenant: str | None, *, limit: int) -> Select[JobAction]:
    """The newest of those actions of a tenant, or of all (None), that have not come to their end."""
    found = select(JobAction).where(JobAction.state == ActionState.RUNNING)
    if tenant is not None:
        found = found.where(JobAction.tenant == tenant)
    return found.order_by(JobAction.id.desc()).limit(limit)


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
