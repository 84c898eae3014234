"""What keys do: counted in this process, and written every few seconds, all keys in one statement.

A process that is killed loses what it counted since. A statement that committed, and of which this process
never heard, is counted twice.
"""

import asyncio
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.exchange import Exchange
from jobs.usage import Counts, KeyDay, record

log = structlog.get_logger()

EVERY_SECONDS = 5.0


class Usage:
    """What was counted and is not yet written; as many entries as keys were used since."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._counted: dict[KeyDay, Counts] = {}
        self._ending = asyncio.Event()

    def count_exchange(self, exchange: Exchange) -> None:
        """A request with a good key was answered."""
        if exchange.key_id is not None:
            counts = self._of(exchange.key_id)
            counts.requests += 1
            counts.refused += exchange.status == HTTPStatus.TOO_MANY_REQUESTS
            counts.received_bytes += exchange.received_bytes
            counts.sent_bytes += exchange.sent_bytes

    def count_job(self, key_id: uuid.UUID, items: int, gflop: float) -> None:
        """A job was accepted that was not there before."""
        counts = self._of(key_id)
        counts.jobs += 1
        counts.items += items
        counts.gflop += gflop

    async def flush(self) -> None:
        """Write what was counted; it is kept where it cannot be written."""
        counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            async with self._sessions.begin() as session:
                await session.run_sync(record, counted)
        except BaseException:
            for key_day, counts in counted.items():
                self._counted.setdefault(key_day, Counts()).add(counts)
            raise

    async def keep_flushing(self) -> None:
        """Write again and again until told to end, and then once more."""
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), EVERY_SECONDS)
            try:
                await self.flush()
            except SQLAlchemyError as error:
                log.warning("usage.not_written", keys=len(self._counted), error=type(error).__name__)
            except Exception:
                # a fault of one flush must not end the counting
                log.exception("usage.failed")

    def end(self) -> None:
        """Let `keep_flushing` come to its end."""
        self._ending.set()

    def _of(self, key_id: uuid.UUID) -> Counts:
        return self._counted.setdefault(KeyDay(key_id, datetime.now(UTC).date()), Counts())
