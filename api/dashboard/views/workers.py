"""The workers: what each has loaded, how it does, what it is at, and having it claim no more."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api.dashboard.forms import read_form
from api.dashboard.pages import go, page
from api.dashboard.visitor import Looking, Running, Visitor
from api.deps import ReadingDep, ServicesDep
from api.schemas.ids import job_id as wire_job_id
from api.schemas.ids import parse_worker_id
from api.schemas.ids import worker_id as wire_worker_id
from api.schemas.workers import rate
from jobs import audit, fleet, workers
from jobs.errors import InvalidRequestError
from jobs.fleet import FleetFilter, Place
from models.queue import ANALYSIS
from models.types import WorkerState
from models.worker import Worker

if TYPE_CHECKING:
    from sqlalchemy import Row

router = APIRouter()

HOME: Final = "/admin/workers"
PAGE: Final = 100
GONE_SHOWN: Final = 10
REVISION_CHARACTERS: Final = 8
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Holding:
    """A unit that a worker holds; without a job where that is not the visitor's to see."""

    job: str | None
    unit: int = 0
    attempt: int = 0
    items: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A worker as a page shows it."""

    id: str
    row: Worker
    state: str
    revision: str
    gflop_per_s: float | None
    holdings: Sequence[Holding]
    more: bool

    @property
    def may_drain(self) -> bool:
        """Whether there is anything to drain."""
        return self.state == WorkerState.ONLINE

    @property
    def has_batches(self) -> bool:
        """Whether it has a model to fill."""
        return self.row.model != ANALYSIS


@router.get("/workers")
async def show_workers(request: Request, visitor: Looking, session: ReadingDep) -> Response:
    """The workers, with filters."""
    return page(request, "workers.html", visitor, **await _facts(request, visitor, session))


@router.get("/workers/rows")
async def show_rows(request: Request, visitor: Looking, session: ReadingDep) -> Response:
    """The part of it that changes."""
    return page(request, "workers_rows.html", visitor, **await _facts(request, visitor, session))


@router.post("/workers/{worker_id}/drain")
async def drain(worker_id: str, request: Request, visitor: Running, services: ServicesDep) -> Response:
    """Have a worker finish what it holds and claim no more."""
    form = await read_form(request)
    parsed = parse_worker_id(worker_id)
    reason = form.reason()
    async with services.sessions.begin() as session:
        await session.run_sync(_drain, visitor, parsed, reason)
    asked = dict(parse_qsl(form.text("back", required=False)))
    return go(f"{HOME}?{_query(*_read(asked))}", "worker-draining")


def _drain(session: Session, visitor: Visitor, worker_id: uuid.UUID, reason: str | None) -> None:
    workers.drain_known(session, worker_id)
    audit.note(session, visitor.actor, "worker.drained", wire_worker_id(worker_id), reason=reason)


async def _facts(request: Request, visitor: Visitor, session: AsyncSession) -> dict[str, Any]:
    wanted, after = _read(request.query_params)
    rows = (await session.execute(fleet.workers_page(wanted, after=after, limit=PAGE))).all()
    last = rows[PAGE - 1][0] if len(rows) > PAGE else None
    gone: Sequence[Row[Worker, str]] = []
    if wanted.state is None and after is None:
        silent = FleetFilter(wanted.model, WorkerState.OFFLINE)
        gone = (await session.execute(fleet.workers_page(silent, after=None, limit=GONE_SHOWN))).all()
    crews = (await session.execute(fleet.crews())).all()
    counts: dict[str, int] = defaultdict(int)
    for _, state, count in crews:
        counts[state] += count
    here = rows[:PAGE]
    held = await _held(session, visitor, [worker.id for worker, _ in here])
    return {
        "workers": [_shown(worker, state, held[worker.id]) for worker, state in here],
        "gone": [_shown(worker, state, []) for worker, state in gone[:GONE_SHOWN]],
        "more_gone": len(gone) > GONE_SHOWN,
        "states": [(state, counts[state]) for state in WorkerState],
        "models": sorted({model for model, _, _ in crews} | ({wanted.model} if wanted.model else set())),
        "wanted": wanted,
        "is_first": after is None,
        "query": _query(wanted, after),
        "first_query": _query(wanted),
        "gone_query": _query(FleetFilter(wanted.model, WorkerState.OFFLINE)),
        "next_query": _query(wanted, Place(last.started_at, last.id)) if last else None,
    }


async def _held(
    session: AsyncSession, visitor: Visitor, worker_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, list[Holding]]:
    held: dict[uuid.UUID, list[Holding]] = defaultdict(list)
    for row in await session.execute(fleet.HELD, fleet.held_by(worker_ids)):
        if visitor.sees(row.tenant):
            job = wire_job_id(row.job_id)
            held[row.worker_id].append(Holding(job, row.unit, row.attempt, row.items, row.since))
        else:
            # that it is busy, and nothing of what with
            held[row.worker_id].append(Holding(None))
    return held


def _shown(worker: Worker, state: str, holdings: Sequence[Holding]) -> Shown:
    return Shown(
        id=wire_worker_id(worker.id),
        row=worker,
        state=state,
        revision=_short(worker.revision),
        gflop_per_s=rate(worker.seconds_per_gflop),
        holdings=holdings[: fleet.UNITS_SHOWN],
        more=len(holdings) > fleet.UNITS_SHOWN,
    )


def _short(revision: str | None) -> str:
    """Enough of a revision to tell it from others."""
    place, colon, digest = (revision or "").rpartition(":")
    return f"{place}{colon}{digest[:REVISION_CHARACTERS]}"


def _read(asked: Any) -> tuple[FleetFilter, Place | None]:
    """What an address asks for.

    Raises:
        InvalidRequestError: no page of ours has such an address.
    """
    try:
        state = WorkerState(asked["state"]) if asked.get("state") else None
        after = asked.get("after")
        if not after:
            return FleetFilter(asked.get("model") or None, state), None
        started, _, worker_id = after.partition("-")
        place = Place(EPOCH + timedelta(microseconds=int(started)), uuid.UUID(worker_id))
    except (ValueError, OverflowError):
        raise InvalidRequestError("There is no such page of workers.") from None
    return FleetFilter(asked.get("model") or None, state), place


def _query(wanted: FleetFilter, after: Place | None = None) -> str:
    """The address of a page, behind its `?`."""
    told = {"model": wanted.model, "state": wanted.state}
    if after is not None:
        told["after"] = f"{(after.started_at - EPOCH) // timedelta(microseconds=1)}-{after.id.hex}"
    return urlencode({name: value for name, value in told.items() if value})
