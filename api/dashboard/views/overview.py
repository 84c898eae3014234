"""The overview: what is open, how things went, and who serves which model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from api.dashboard.pages import page
from api.dashboard.series import series_of
from api.dashboard.visitor import Looking, Visitor
from api.deps import ReadingDep, ServicesDep
from jobs import charts, queries
from jobs.charts import MOST_OPEN, RANGES, Range
from models.queue import Queue
from models.types import JobState

router = APIRouter()

DEFAULT_RANGE: Final = "1h"


@dataclass(slots=True)
class ModelRow:
    """A model, or the queue of the analysts, as the table shows it."""

    name: str
    queued: int = 0
    running: int = 0
    items: int = 0
    oldest: datetime | None = None
    workers: int = 0
    paused: bool = False
    times: Mapping[str, Mapping[str, float | None]] | None = None


@router.get("/")
async def show_overview(request: Request, visitor: Looking, session: ReadingDep) -> Response:
    """The whole page."""
    wanted = _range(request)
    facts = await _facts(session, visitor)
    return page(request, "overview.html", visitor, range=wanted, ranges=RANGES.values(), **facts)


@router.get("/overview/now")
async def show_now(request: Request, visitor: Looking, session: ReadingDep) -> Response:
    """The part that changes: tiles and models."""
    facts = await _facts(session, visitor)
    answer = page(request, "overview_now.html", visitor, **facts)
    if "new" in request.query_params and not facts["is_new"]:
        # a page that said what to do next has no charts yet: all of it is loaded again
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.get("/overview/series")
async def read_series(request: Request, visitor: Looking, services: ServicesDep) -> Response:
    """What the charts draw, as JSON."""
    series = await series_of(request).read(services.reading, _range(request), visitor.tenant)
    return Response(series, media_type="application/json")


def _range(request: Request) -> Range:
    return RANGES.get(request.query_params.get("range", ""), RANGES[DEFAULT_RANGE])


async def _facts(session: AsyncSession, visitor: Visitor) -> dict[str, Any]:
    tenant = visitor.tenant
    opened = (await session.execute(charts.open_jobs(tenant))).all()
    states: dict[str, int] = dict.fromkeys(charts.OPEN, 0)
    models: dict[str, ModelRow] = {}

    def row_of(name: str) -> ModelRow:
        return models.setdefault(name, ModelRow(name))

    for state, name, jobs, items, oldest in opened:
        states[state] += jobs
        row = row_of(name)
        row.items += items
        if state == JobState.QUEUED:
            row.queued += jobs
            row.oldest = oldest
        else:
            row.running += jobs
    for name, workers in await session.execute(queries.models_online()):
        row_of(name).workers = workers
    for name in await session.scalars(select(Queue.model).where(Queue.paused_at.is_not(None))):
        row_of(name).paused = True
    for name, times in (await session.run_sync(charts.last_hour, tenant)).items():
        row_of(name).times = times
    values = {"tenant": tenant}
    hour = (await session.execute(charts.LAST_HOUR, values)).one()
    return {
        "states": states,
        "most": MOST_OPEN,
        "failed": hour.failed,
        "succeeded": hour.succeeded,
        "items_a_minute": await session.scalar(charts.ITEMS_A_MINUTE, values),
        "oldest": min((row.oldest for row in models.values() if row.oldest), default=None),
        "workers": sum(row.workers for row in models.values()),
        "models": sorted(models.values(), key=lambda row: row.name),
        "is_new": not opened and not await session.scalar(charts.any_job(tenant)),
    }
