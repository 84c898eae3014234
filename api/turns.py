"""Turns at what few may do at a time: given to tenants by rotation, to none more than its share of them."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from api.errors import BusyError


class Turns:
    """Who is at it and who waits; belongs to one event loop."""

    def __init__(
        self,
        at_once: int,
        share: int | None = None,
        wait_seconds: float | None = None,
        note_wait: Callable[[float], object] = lambda _: None,
    ) -> None:
        """A tenant has `share` of them at a time, or half; nobody waits for longer than `wait_seconds`.

        Of each wait, also one that was in vain, `note_wait` is told the seconds.
        """
        self._note_wait = note_wait
        self._free = at_once
        # rounded up: a single one has to go to somebody
        self._share = -(-at_once // 2) if share is None else share
        self._wait_seconds = wait_seconds
        self._taken: Counter[str] = Counter()
        # the tenant that is first is the next: who was served and waits for more is the last
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn of the tenant, and have it while the block runs.

        Raises:
            BusyError: it did not come in time.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._give()
        try:
            if not turn.done():
                await self._wait(turn)
            yield
        finally:
            self._end(tenant, turn)

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    async def _wait(self, turn: "asyncio.Future[None]") -> None:
        since = time.perf_counter()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            raise BusyError from None
        finally:
            self._note_wait(time.perf_counter() - since)

    def _give(self) -> None:
        """Give what is free to those who wait, as far as they may have it."""
        while self._free and (tenant := self._next()) is not None:
            turns = self._waiting[tenant]
            turn = turns.popleft()
            self._waiting.move_to_end(tenant)
            if not turns:
                del self._waiting[tenant]
            # whoever was cancelled takes itself away only when it runs next
            if not turn.done():
                turn.set_result(None)
                self._free -= 1
                self._taken[tenant] += 1

    def _next(self) -> str | None:
        return next((tenant for tenant in self._waiting if self._taken[tenant] < self._share), None)

    def _end(self, tenant: str, turn: "asyncio.Future[None]") -> None:
        if turn.cancelled():
            # it never had its turn
            turns = self._waiting.get(tenant, deque())
            with suppress(ValueError):
                turns.remove(turn)
                if not turns:
                    del self._waiting[tenant]
            return
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._give()
