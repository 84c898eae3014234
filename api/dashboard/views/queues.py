"""The queues: what waits for each model, whose, and the operator's hold on them."""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api.dashboard.forms import read_form
from api.dashboard.pages import go, page
from api.dashboard.visitor import Looking, Running, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.inviting import invite_waiting
from engine.errors import CatalogError
from jobs import audit, fleet, queue_overview, queues, workers
from jobs.errors import NotFoundError
from jobs.fairness import WEIGHTS

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

router = APIRouter()

HOME: Final = "/admin/queues"
Change = Callable[[Session, str], int | None]


@router.get("/queues")
async def show_queues(
    request: Request, visitor: Looking, services: ServicesDep, session: ReadingDep
) -> Response:
    """Every queue that was used, was paused or has workers."""
    return page(request, "queues.html", visitor, **await _facts(visitor, services, session))


@router.get("/queues/rows")
async def show_rows(
    request: Request, visitor: Looking, services: ServicesDep, session: ReadingDep
) -> Response:
    """The part of it that changes."""
    return page(request, "queues_rows.html", visitor, **await _facts(visitor, services, session))


@router.post("/queues/{model:path}/pause")
async def pause(model: str, request: Request, visitor: Running, services: ServicesDep) -> Response:
    """Let nothing more of it be claimed."""
    await _change(request, services, visitor, model, queue_overview.PAUSED, queues.pause)
    return go(HOME, "queue-paused")


@router.post("/queues/{model:path}/resume")
async def resume(model: str, request: Request, visitor: Running, services: ServicesDep) -> Response:
    """Let it go on."""
    await _change(request, services, visitor, model, "queue.resumed", queues.resume)
    await invite_waiting(services, model)
    return go(HOME, "queue-resumed")


@router.post("/queues/{model:path}/drain")
async def drain(model: str, request: Request, visitor: Running, services: ServicesDep) -> Response:
    """Pause it, and have its workers finish what they hold and claim no more."""
    await _change(request, services, visitor, model, queue_overview.DRAINED, _pause_and_drain)
    return go(HOME, "queue-draining")


async def _change(
    request: Request, services: Services, visitor: Visitor, model: str, verb: str, change: Change
) -> None:
    form = await read_form(request)
    reason = form.reason()
    if not _is_known(services, model):
        raise NotFoundError

    def change_and_note(session: Session) -> None:
        matched = change(session, model)
        audit.note(session, visitor.actor, verb, model, reason=reason, matched=matched)

    async with services.sessions.begin() as session:
        await session.run_sync(change_and_note)


def _pause_and_drain(session: Session, model: str) -> int:
    queues.pause(session, model)
    return workers.drain_model(session, model)


def _is_known(services: Services, model: str) -> bool:
    try:
        services.catalog.find(model)
    except CatalogError:
        return False
    return True


async def _facts(visitor: Visitor, services: Services, session: AsyncSession) -> dict[str, Any]:
    rows = (await session.execute(queue_overview.OVERVIEW)).all()
    crews: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for model, state, count in await session.execute(fleet.crews()):
        crews[model][state] += count
    facts: dict[str, Any] = {
        "queues": rows,
        "crews": {row.model: crews[row.model] for row in rows},
        "known": {row.model for row in rows if _is_known(services, row.model)},
        "flows": {},
        "pauses": {},
    }
    if visitor.tenant is not None:
        # as they are shown to keys: of all tenants together, and without anybody's name
        return facts
    flows: dict[str, list[Row[Any]]] = defaultdict(list)
    for flow in await session.execute(queue_overview.FLOWS):
        flows[flow.model].append(flow)
    paused: dict[str, datetime] = {row.model: row.paused_at for row in rows if row.paused_at}
    noted = (await session.scalars(queue_overview.pauses(paused))).all() if paused else []
    return facts | {
        "flows": {model: some[: queue_overview.FLOWS_SHOWN] for model, some in flows.items()},
        "more_flows": {model for model, some in flows.items() if len(some) > queue_overview.FLOWS_SHOWN},
        "weights": WEIGHTS,
        "pauses": {entry.target: entry for entry in noted},
    }
