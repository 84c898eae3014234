"""The list of jobs: found by the filters in its address, newest first, live on the first page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.dashboard.csv_files import csv_file
from api.dashboard.job_search import JobSearch, JobSearchDep
from api.dashboard.pages import page
from api.dashboard.visitor import Looking, Visitor
from api.deps import ReadingDep, ServicesDep
from api.schemas.ids import action_id, job_id, parse_job_id
from jobs.actions import running_actions
from jobs.listing import count_up_to, jobs_page
from jobs.tenants import ONLY_TENANT, TENANTS
from models.job import Job
from models.queue import ANALYSIS
from models.types import JobState, JobType

router = APIRouter()

PAGE_JOBS: Final = 50
COUNTED: Final = 1_000
"""So many are counted, and only where a filter is set."""
ACTIONS_SHOWN: Final = 5
TAGS_SHOWN: Final = 3
CSV_HEAD: Final = (
    *("id", "tenant", "type", "model", "state", "total", "succeeded", "failed", "dropped"),
    *("tags", "created_at", "started_at", "ended_at"),
)

Before = Annotated[str | None, Query(max_length=100)]


@dataclass(frozen=True, slots=True)
class JobsPage:
    """Some jobs, and behind which one the next page begins."""

    jobs: Sequence[Job]
    next_before: str | None


@router.get("/jobs")
async def show_jobs(
    request: Request,
    visitor: Looking,
    services: ServicesDep,
    session: ReadingDep,
    search: JobSearchDep,
    before: Before = None,
) -> Response:
    """The filter, and a page of what it finds."""
    found = await _read(session, search, before)
    tenants = (await session.scalars(TENANTS)).all() if visitor.tenant is None else ()
    acted_on = search.tenant or await session.scalar(ONLY_TENANT)
    models = sorted({*services.catalog.names(), ANALYSIS, *search.wanted.models})
    return page(
        request,
        "jobs.html",
        visitor,
        states=list(JobState),
        types=list(JobType),
        models=models,
        tenants=tenants,
        acted_on=acted_on,
        **await _facts(session, visitor, search, before, found),
    )


@router.get("/jobs/rows")
async def show_rows(
    request: Request, visitor: Looking, session: ReadingDep, search: JobSearchDep, before: Before = None
) -> Response:
    """What of the page changes."""
    found = await _read(session, search, before)
    return page(request, "job_rows.html", visitor, **await _facts(session, visitor, search, before, found))


@router.get("/jobs/count")
async def show_count(
    request: Request, visitor: Looking, session: ReadingDep, search: JobSearchDep
) -> Response:
    """How many a filter finds, up to COUNTED."""
    counted = None
    if search.is_narrow or search.tenant is not None:
        counted = await session.scalar(count_up_to(search.tenant, search.wanted, COUNTED))
    return page(request, "job_count.html", visitor, counted=counted, most=COUNTED)


@router.get("/jobs.csv")
async def download_page(
    visitor: Looking, session: ReadingDep, search: JobSearchDep, before: Before = None
) -> Response:
    """The jobs of the page that is shown, as CSV."""
    found = await _read(session, search, before)
    return csv_file("jobs.csv", CSV_HEAD, map(_cells, found.jobs))


async def _read(session: AsyncSession, search: JobSearch, before: str | None) -> JobsPage:
    behind = None if before is None else parse_job_id(before)
    wanted = jobs_page(search.tenant, search.wanted, before=behind, limit=PAGE_JOBS)
    found = (await session.scalars(wanted)).all()
    shown = found[:PAGE_JOBS]
    return JobsPage(shown, job_id(shown[-1].id) if len(found) > PAGE_JOBS else None)


async def _facts(
    session: AsyncSession, visitor: Visitor, search: JobSearch, before: str | None, found: JobsPage
) -> dict[str, Any]:
    running = await session.scalars(running_actions(search.tenant, limit=ACTIONS_SHOWN))
    return {
        "search": search,
        "before": before,
        "found": found,
        "actions": running.all(),
        "job_id": job_id,
        "action_id": action_id,
        "ran": ran,
        "tags_shown": TAGS_SHOWN,
    }


def ran(job: Job) -> timedelta | None:
    """How long a job has run, or did."""
    if job.started_at is None:
        return None
    # the database's clock may be a little ahead
    return max(timedelta(0), (job.ended_at or datetime.now(UTC)) - job.started_at)


def _cells(job: Job) -> tuple[Any, ...]:
    times = (job.created_at, job.started_at, job.ended_at)
    return (
        *(job_id(job.id), job.tenant, job.type, job.model, job.state),
        *(job.total, job.succeeded, job.failed, job.dropped),
        orjson.dumps(job.tags).decode(),
        *(time and time.astimezone(UTC).isoformat() for time in times),
    )
