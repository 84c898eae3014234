"""The workers as those who run the service look at them: in pages, and with what each is at."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)

from jobs.queries import ONLINE_SECONDS, WORKERS_SHOWN_DAYS
from models.types import WorkerState
from models.worker import Worker

SPEAKING: Final = frozenset({WorkerState.ONLINE, WorkerState.STARTING, WorkerState.DRAINING})
"""A worker that says so has a heartbeat."""
UNITS_SHOWN: Final = 3
"""Of what a lease is on: one more is read, to tell that there are more."""
LEASES_SHOWN: Final = 400


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """Which workers: of a model, and in a state; without one, all that are not offline."""

    model: str | None = None
    state: WorkerState | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of workers ends: they are listed by their start, which does not change."""

    started_at: datetime
    id: uuid.UUID


HELD = text("""
    SELECT leases.worker_id, leases.token, uuid_extract_timestamp(leases.token) AS since,
           held.job_id, held.unit, held.attempt, held.items, jobs.tenant, jobs.type
    FROM (
        SELECT token, worker_id FROM leases WHERE worker_id = ANY(:worker_ids) ORDER BY token LIMIT :leases
    ) AS leases
    CROSS JOIN LATERAL (
        SELECT job_id, unit, attempt, items FROM work
        WHERE lease_token = leases.token ORDER BY id LIMIT :units
    ) AS held
    JOIN jobs ON jobs.id = held.job_id
    ORDER BY leases.token, held.job_id, held.unit
""").bindparams(
    bindparam("worker_ids", type_=ARRAY(Uuid())),
    bindparam("leases", LEASES_SHOWN, BigInteger()),
    bindparam("units", UNITS_SHOWN + 1, BigInteger()),
)
"""What some workers are at: the first units of each of their leases, and whose they are."""


def shown_state() -> ColumnElement[str]:
    """What a worker is: one that fell silent is offline, whatever it said last."""
    silent = and_(Worker.state.in_(sorted(SPEAKING)), ~_is_heard())
    return case((silent, literal(WorkerState.OFFLINE.value)), else_=Worker.state)


def workers_page(wanted: FleetFilter, *, after: Place | None, limit: int) -> Select[Worker, str]:
    """Workers of the last day with what each is, started last first: one more than `limit`."""
    page = (
        select(Worker, shown_state())
        .where(_of_the_last_day(), _is(wanted.state))
        .order_by(Worker.started_at.desc(), Worker.id.desc())
        .limit(limit + 1)
    )
    if wanted.model is not None:
        page = page.where(Worker.model == wanted.model)
    if after is not None:
        end = tuple_(literal(after.started_at, DateTime(timezone=True)), literal(after.id, Uuid()))
        page = page.where(tuple_(Worker.started_at, Worker.id) < end)
    return page


def crews() -> Select[str, str, int]:
    """How many workers of the last day are what, by model: these rows are few, and go after a week."""
    state = shown_state().label("state")
    found = select(Worker.model, state).where(_of_the_last_day()).subquery()
    return select(found.c.model, found.c.state, func.count()).group_by(found.c.model, found.c.state)


def held_by(worker_ids: Sequence[uuid.UUID]) -> dict[str, list[uuid.UUID]]:
    """The parameters of HELD."""
    return {"worker_ids": list(worker_ids)}


def _is(state: WorkerState | None) -> ColumnElement[bool]:
    """Whether that is what is shown: said by columns, of which the planner knows how many are what."""
    if state is None:
        return or_(and_(Worker.state.in_(sorted(SPEAKING)), _is_heard()), Worker.state == WorkerState.FAILED)
    if state is WorkerState.OFFLINE:
        silent = and_(Worker.state.in_(sorted(SPEAKING)), ~_is_heard())
        return or_(silent, Worker.state == WorkerState.OFFLINE)
    return and_(Worker.state == state, _is_heard()) if state in SPEAKING else Worker.state == state


def _is_heard() -> ColumnElement[bool]:
    return Worker.seen_at > func.now() - timedelta(seconds=ONLINE_SECONDS)


def _of_the_last_day() -> ColumnElement[bool]:
    return Worker.seen_at > func.now() - timedelta(days=WORKERS_SHOWN_DAYS)
