"""What the charts draw, kept for a moment: everybody who looks at the same hour is shown the same."""

import asyncio
import time
from dataclasses import asdict
from typing import Final, cast

import orjson
from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from jobs import charts
from jobs.charts import Range

POINT_PARTS: Final = 60
"""It is kept for so small a part of one of its points, and at least LEAST_SECONDS."""
LEAST_SECONDS: Final = 2.0
SHARE: Final = 20
"""And so many times as long as it took to read."""
MOST_KEPT: Final = 100


class KeptSeries:
    """Series of a process, by range and tenant; belongs to one event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], tuple[float, bytes]] = {}
        # one is read at a time: whoever comes meanwhile finds what was read, and no two read a month at once
        self._reading = asyncio.Lock()

    async def read(
        self, sessions: async_sessionmaker[AsyncSession], wanted: Range, tenant: str | None
    ) -> bytes:
        """One of them, as JSON."""
        key = wanted.name, tenant
        async with self._reading:
            until, series = self._kept.get(key, (0.0, b""))
            if (begun := time.monotonic()) >= until:
                async with sessions() as session:
                    read = await session.run_sync(charts.read_history, wanted, tenant)
                # of a month it takes a while, for which nobody else is to wait
                series = await asyncio.to_thread(_render, read)
                ended = time.monotonic()
                seconds = max(
                    LEAST_SECONDS, wanted.step.total_seconds() / POINT_PARTS, SHARE * (ended - begun)
                )
                self._kept.pop(key, None)
                self._kept[key] = ended + seconds, series
                while len(self._kept) > MOST_KEPT:
                    # the one that was read longest ago
                    del self._kept[next(iter(self._kept))]
        return series


def _render(read: charts.History) -> bytes:
    return orjson.dumps(asdict(charts.make_series(read)))


def series_of(request: Request) -> KeptSeries:
    """Those of this process."""
    return cast("KeptSeries", request.app.state.series)
