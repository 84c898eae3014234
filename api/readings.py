"""What metrics say of the ledger: read when they are asked for, and not again for some seconds."""

import asyncio
from itertools import product
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api import metrics
from jobs.charts import ENDED, RECENT, open_jobs
from jobs.fleet import crews
from jobs.queue_overview import OVERVIEW
from models.types import WorkerState

log = structlog.get_logger()

EVERY_SECONDS: Final = 5.0
IDLE_SHARE: Final = 9
"""Reading takes longer where more waits: so many times as long, nobody reads."""
PATIENCE_SECONDS: Final = 5.0
"""Whoever collects metrics waits ten, as a rule: what else is measured is to be told without the database."""


class Readings:
    """Sets the gauges of the ledger; belongs to one event loop."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._lock = asyncio.Lock()
        self._next = 0.0

    async def refresh(self) -> None:
        """Read again, unless that was a moment ago; while the database is away, nothing is said of it."""
        clock = asyncio.get_running_loop().time
        async with self._lock:
            started = clock()
            if started < self._next:
                return
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._read()
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("metrics.database_lost", error=type(error).__name__)
                _forget()
                metrics.LEDGER_UP.set(0)
            else:
                metrics.LEDGER_UP.set(1)
            self._next = clock() + max(EVERY_SECONDS, IDLE_SHARE * (clock() - started))

    async def _read(self) -> None:
        async with self._sessions() as session:
            queues = (await session.execute(OVERVIEW)).all()
            workers = (await session.execute(crews())).all()
            jobs = (await session.execute(open_jobs(None))).all()
            recent = (await session.execute(RECENT)).all()
        # what is not there any more is told no more
        _forget()
        for queue in queues:
            metrics.QUEUE_WAITING.labels(queue.model).set(queue.waiting)
            metrics.QUEUE_RUNNING.labels(queue.model).set(queue.running)
            metrics.QUEUE_OLDEST_SECONDS.labels(queue.model).set(queue.oldest_s or 0)
            metrics.QUEUE_PAUSED.labels(queue.model).set(queue.paused_at is not None)
        for served, is_what in product({row.model for row in workers}, WorkerState):
            # also none: whoever asks whether one more has failed compares
            metrics.WORKERS.labels(served, is_what).set(0)
        for model, state, count in workers:
            metrics.WORKERS.labels(model, state).set(count)
        for state, model, count, *_ in jobs:
            metrics.OPEN_JOBS.labels(model, state).set(count)
        for row in recent:
            for state in ("submitted", *ENDED):
                metrics.RECENT_JOBS.labels(row.model, state).set(getattr(row, state))


def _forget() -> None:
    for gauge in metrics.OF_THE_LEDGER:
        gauge.clear()
