"""Long polls: who waits in this process for which job, and the one loop that looks for all of them.

A request that waits holds no connection to the database; whatever wakes it, it looks for itself before it
answers.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import ClientDisconnect

from api.schemas.ids import parse_job_id
from api.schemas.jobs import QUEUE_PAUSED, JobView
from jobs import queries
from models.types import ENDED

log = structlog.get_logger()

TICK_SECONDS = 0.05
DATABASE_AWAY_SECONDS = 1.0


class Standing(NamedTuple):
    """Where a job stands: of what a poll shows, all that others follow from."""

    state: str
    succeeded: int
    failed: int
    dropped: int
    workers_online: int
    paused: bool = False

    def is_done(self) -> bool:
        """Whether the job ended."""
        return self.state in ENDED

    def differs(self, other: "Standing") -> bool:
        """Whether anything changed between the two."""
        return self != other


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    is_news: Callable[[Standing], bool]
    woken: asyncio.Event


class Waiting:
    """Those who wait; belongs to one event loop."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], max_waiters: int) -> None:
        self._sessions = sessions
        self._max_waiters = max_waiters
        self._waiters: dict[uuid.UUID, set[_Waiter]] = {}
        self._count = 0
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many requests wait."""
        return self._count

    @property
    def is_closed(self) -> bool:
        """Whether the process is to end."""
        return self._closed

    @property
    def has_room(self) -> bool:
        """Whether one more may wait."""
        return not self._closed and self._count < self._max_waiters

    async def wait(
        self, request: Request, job_id: uuid.UUID, is_news: Callable[[Standing], bool], seconds: float
    ) -> None:
        """Return once there is news of the job, it is gone, the seconds are over, or the process is to end.

        Raises:
            ClientDisconnect: nobody waits for the answer any more.
        """
        if self._closed:
            return
        waiter = _Waiter(is_news, asyncio.Event())
        self._enter(job_id, waiter)
        gone = asyncio.create_task(_until_gone(request))
        gone.add_done_callback(lambda _: waiter.woken.set())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter.woken.wait(), seconds)
            if gone.done():
                gone.result()
                raise ClientDisconnect
        finally:
            gone.cancel()
            self._leave(job_id, waiter)

    def release(self) -> None:
        """Wake everybody, and let nobody wait any more: the process is to end."""
        self._closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken.set()

    async def close(self) -> None:
        """Release everybody and end the loop."""
        self.release()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    def _enter(self, job_id: uuid.UUID, waiter: _Waiter) -> None:
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._count += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    def _leave(self, job_id: uuid.UUID, waiter: _Waiter) -> None:
        self._waiters[job_id].discard(waiter)
        self._count -= 1
        if not self._waiters[job_id]:
            del self._waiters[job_id]

    async def _watch(self) -> None:
        """Look again and again, for as long as anybody waits; a database that is away is waited for."""
        clock = asyncio.get_running_loop().time
        pause_seconds = TICK_SECONDS
        look_at = clock()
        while self._waiters:
            # from look to look, not from the end of one to the next: a slow look is not waited for twice
            look_at = max(look_at + pause_seconds, clock())
            await asyncio.sleep(look_at - clock())
            try:
                await self._look()
            except SQLAlchemyError as error:
                log.warning("waiting.database_lost", waiters=self._count, error=type(error).__name__)
                pause_seconds = DATABASE_AWAY_SECONDS
            except Exception:
                # a fault of one look must not leave everybody waiting
                log.exception("waiting.failed")
                pause_seconds = DATABASE_AWAY_SECONDS
            else:
                pause_seconds = TICK_SECONDS

    async def _look(self) -> None:
        asked = list(self._waiters)
        if not asked:
            return
        async with self._sessions() as session:
            rows = await session.execute(queries.standings(asked))
            found = {row.id: Standing(*row[1:]) for row in rows}
        for job_id in asked:
            standing = found.get(job_id)
            for waiter in self._waiters.get(job_id, ()):
                if standing is None or waiter.is_news(standing):
                    waiter.woken.set()


async def follow(
    waiting: Waiting,
    request: Request,
    shown: JobView,
    look: Callable[[], Awaitable[JobView]],
    *,
    seconds: float,
    known: Callable[[JobView], bool] | None = None,
) -> tuple[JobView, bool]:
    """The job once it is done or no longer one that the client knows; and whether it was granted to wait.

    It is not where too many wait already, and not any longer when the process is to end.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while not shown.done and (known is None or known(shown)) and (left := deadline - clock()) > 0:
        if not waiting.has_room:
            return shown, False
        seen = _standing(shown)
        is_news = Standing.is_done if known is None else seen.differs
        await waiting.wait(request, parse_job_id(shown.id), is_news, left)
        shown = await look()
    return shown, True


def _standing(shown: JobView) -> Standing:
    progress = shown.progress
    # of what ended it is not shown, and nobody waits for it
    paused = shown.waiting_for is not None and shown.waiting_for.code == QUEUE_PAUSED
    return Standing(
        shown.state, progress.succeeded, progress.failed, progress.dropped, shown.workers_online, paused
    )


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what else a client may send is no part of a poll
