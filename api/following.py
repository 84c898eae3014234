"""Following a job: its events as they happen, for as long as it runs and the client listens."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from api.deps import Services
from api.lookup import find_kept_job
from api.schemas import events as schema
from api.schemas.ids import parse_job_id
from api.schemas.jobs import JobView, view
from api.waiting import Standing
from jobs.errors import DomainError, ResultsExpiredError
from jobs.events import FINISHED
from jobs.outlook import outlook_of

log = structlog.get_logger()

HEARTBEAT_SECONDS: Final = 15.0
ROUND_SECONDS: Final = 0.2
"""Between two looks at a job: what happens meanwhile is told together."""
STREAM_SECONDS: Final = 3_600.0
"""Then the client comes back by itself, and its key is looked at again."""
ITEMS_AT_ONCE: Final = 256


async def look(services: Services, tenant: str, wire_id: str) -> JobView:
    """The job as a poll shows it.

    Raises:
        NotFoundError: there is none.
        ResultsExpiredError: its events went with its results.
    """
    # a session of its own: who waits must not hold a connection
    async with services.reading() as session:
        job = await find_kept_job(session, tenant, wire_id)
        return view(job, await session.run_sync(outlook_of, job.id))


async def follow_events(
    services: Services, request: Request, tenant: str, wire_id: str, *, after: int, items: bool
) -> AsyncIterator[bytes]:
    """The events behind a place, until the job is done; it ends early when it cannot go on.

    A client that comes back with the id of the last event that it has misses nothing and has nothing twice.
    """
    try:
        async for event in _events(services, request, tenant, wire_id, after if items else None):
            yield event
    except ClientDisconnect:
        pass
    except (DomainError, SQLAlchemyError) as error:
        # too late for a problem: the client comes back, and hears of it then
        log.warning("events.ended_early", job_id=wire_id, error=type(error).__name__)


async def _events(
    services: Services, request: Request, tenant: str, wire_id: str, place: int | None
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    until = clock() + STREAM_SECONDS
    told: JobView | None = None
    sent_at = clock()
    while not services.waiting.is_closed and clock() < until:
        shown = await look(services, tenant, wire_id)
        if told is None:
            yield schema.state_event(shown, first=True)
        while place is not None and (page := await _finished(services, wire_id, place)):
            place, events = page
            yield events
        changes = b""
        if told is None or _counts(shown) != _counts(told):
            changes += schema.progress_event(shown)
        if told is not None and shown.state != told.state:
            changes += schema.state_event(shown, first=False)
        if shown.done:
            # once more: had its items been removed meanwhile, some would have been passed over
            await look(services, tenant, wire_id)
            yield changes + schema.done_event(shown)
            return
        if changes:
            yield changes
            sent_at = clock()
        told = shown
        await asyncio.sleep(ROUND_SECONDS)
        left = max(0.0, sent_at + HEARTBEAT_SECONDS - clock())
        await services.waiting.wait(request, parse_job_id(wire_id), _is_beyond(shown), left)
        if clock() >= sent_at + HEARTBEAT_SECONDS:
            yield schema.HEARTBEAT
            sent_at = clock()


def _is_beyond(shown: JobView) -> Callable[[Standing], bool]:
    """Whether there is something to tell of; workers that come and go are told to those who poll."""
    known = shown.state, *_counts(shown)
    return lambda now: (now.state, now.succeeded, now.failed, now.dropped) != known


def _counts(shown: JobView) -> tuple[int, int, int]:
    # without what is estimated: that is another at every look
    return shown.progress.succeeded, shown.progress.failed, shown.progress.dropped


async def _finished(services: Services, wire_id: str, place: int) -> tuple[int, bytes] | None:
    """The next items behind a place, and the place of the last of them."""
    job_id = parse_job_id(wire_id)
    values = {"job_id": job_id, "after": place, "limit": ITEMS_AT_ONCE}
    async with services.reading() as session:
        rows = (await session.execute(FINISHED, values)).all()
    if not rows:
        return None
    if any(row.state is None for row in rows):
        raise ResultsExpiredError
    return rows[-1].place, schema.item_events(job_id, rows)
