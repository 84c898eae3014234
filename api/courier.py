"""Taking messages to webhook endpoints: in a thread of its own, with an event loop and sessions of its own.

A receiver that never answers holds up neither requests nor duties, and of other receivers' messages none.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from jobs.addresses import Rules
from jobs.deliveries import Message, Share, Try, claim_due, settle
from jobs.egress import Bounds, Egress
from jobs.errors import UrlRefusedError, UrlUnreachableError
from jobs.messages import headers_of
from models.session import async_sessions

log = structlog.get_logger()

EVERY_SECONDS: Final = 1.0
DATABASE_AWAY_SECONDS: Final = 2.0
CONNECTIONS: Final = 4
BOUNDS: Final = Bounds(answer_bytes=4096)
"""Of a try: whatever the answer says, its status is all that counts."""
STOP_SECONDS: Final = 1.0
"""So long tries that are under way are waited for at the end; others make them again after their lease."""


class Courier:
    """Claims what is due, sends it, and notes what came of it."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        egress: Egress,
        share: Share | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._sessions = sessions
        self._egress = egress
        self._share = share or Share()
        self._every_seconds = every_seconds
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._under_way: dict[asyncio.Task[None], Message] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop; a database that is away is waited for."""
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            pause = self._every_seconds
            try:
                await self._start_due()
            except SQLAlchemyError as error:
                log.warning("webhooks.database_lost", error=type(error).__name__)
                pause = DATABASE_AWAY_SECONDS
            except Exception:
                # a fault of one claim must not end the deliveries
                log.exception("webhooks.failed")
            # whenever a try ends there is room for another
            await asyncio.wait(
                [stopping, *self._under_way], timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=STOP_SECONDS)

    async def _start_due(self) -> None:
        if len(self._under_way) >= self._share.messages:
            return
        async with self._connections, self._sessions.begin() as session:
            under_way = list(self._under_way.values())
            due = await session.run_sync(claim_due, under_way, self._share)
        # only now, behind the commit: no transaction is open while a message is sent
        for message in due:
            task = asyncio.create_task(self._deliver(message))
            self._under_way[task] = message
            task.add_done_callback(self._under_way.pop)

    async def _deliver(self, message: Message) -> None:
        try:
            tried = await self._try(message)
            async with self._connections, self._sessions.begin() as session:
                state = await session.run_sync(settle, message, tried)
        except SQLAlchemyError as error:
            # it is sent again when its lease is over, by the same id
            log.warning("webhook.not_settled", delivery=str(message.delivery_id), error=type(error).__name__)
        except Exception:
            log.exception("webhook.failed", delivery=str(message.delivery_id))
        else:
            log.info(
                "webhook.tried",
                delivery=str(message.delivery_id),
                endpoint=str(message.endpoint_id),
                state=state,
                status=tried.status,
                error=tried.error,
                elapsed_ms=tried.elapsed_ms,
            )

    async def _try(self, message: Message) -> Try:
        at = datetime.now(UTC)
        started = time.monotonic()
        headers = headers_of(message.id, message.body, message.secrets, at)
        elapsed = partial(_elapsed_ms, started)
        try:
            answer = await self._egress.send(
                "POST", message.url, headers=headers, body=message.body, bounds=BOUNDS
            )
        except (UrlRefusedError, UrlUnreachableError) as error:
            return Try(at, elapsed(), error=error.message)
        return Try(at, elapsed(), status=answer.status, retry_after=retry_after(answer.headers))


def retry_after(headers: httpx.Headers, now: datetime | None = None) -> timedelta | None:
    """How long a receiver wants to be left alone, in seconds or as a date; None where it says neither."""
    value = headers.get("retry-after", "").strip()
    with suppress(ValueError, OverflowError):
        seconds = float(value)
        return timedelta(seconds=seconds) if math.isfinite(seconds) and seconds >= 0 else None
    with suppress(ValueError, OverflowError, TypeError):
        return max(timedelta(), parsedate_to_datetime(value) - (now or datetime.now(UTC)))
    return None


@contextmanager
def delivering(
    database_url: str, rules: Rules, share: Share | None = None, every_seconds: float = EVERY_SECONDS
) -> Iterator[None]:
    """Deliver meanwhile, in a thread."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def deliver() -> None:
        sessions = async_sessions(database_url)
        egress = Egress(rules)
        try:
            await Courier(sessions, egress, share, every_seconds).run(stop)
        finally:
            await egress.close()
            await sessions.kw["bind"].dispose()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(deliver())

    # a daemon: one that waits for the database must not hold up the end of the process
    thread = threading.Thread(target=run, name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(2 * STOP_SECONDS)


def _elapsed_ms(started: float) -> int:
    return round(1000 * (time.monotonic() - started))
