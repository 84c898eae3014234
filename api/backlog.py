"""How much waits in the queue, heard now and then rather than asked for with every submit."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from jobs import queries

log = structlog.get_logger()

EVERY_SECONDS = 1.0
IDLE_SHARE = 9
"""Counting a long queue takes longer: so many times as long, nobody counts."""


class Backlog:
    """The items that wait or run in all: as last heard, and what this process accepted since."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._heard = 0
        self._accepted = 0

    @property
    def items(self) -> int:
        """An estimate: other processes' submits of the last second are missing from it."""
        return self._heard + self._accepted

    def add(self, items: int) -> None:
        """This process has accepted a job of so many items."""
        self._accepted += items

    async def hear(self) -> None:
        """Count what waits in the database."""
        before = self._accepted
        async with self._sessions() as session:
            self._heard = await session.scalar(queries.waiting_items()) or 0
        # what was accepted meanwhile may not have been seen
        self._accepted -= before

    async def keep_hearing(self) -> None:
        """Count again and again, until cancelled; while the database is away, the last number stands."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await self.hear()
            except SQLAlchemyError as error:
                log.warning("backlog.database_lost", error=type(error).__name__)
            except Exception:
                # a fault of one count must not let the number stand for ever
                log.exception("backlog.failed")
            await asyncio.sleep(max(EVERY_SECONDS, IDLE_SHARE * (clock() - started)))
