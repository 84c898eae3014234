"""What flows get back for work that never runs: by one connection, a flow at a time, tried until it is done.

A flow's clock may be locked for long, or the database away, when what was asked for is over. Nobody who waits
for a refund holds a connection, and none is dropped for that it could not be made at once. What is owed when
the process dies is lost; so the next work of the flow waits for a little longer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from jobs.fairness import FlowKey

log = structlog.get_logger()

Refund = Callable[[Session], None]

LOCK_SECONDS: Final = 1
"""So long a clock that is locked is waited for; the next flow is not to wait for longer."""
WAIT_SECONDS: Final = 2.0
"""So long a request waits to see its refund made."""
PAUSE_SECONDS: Final = 1.0
"""After a refund that failed, where no other flow is owed anything."""
AT_ONCE: Final = 100
"""Refunds of a flow in one transaction."""


@dataclass(slots=True)
class _Owed:
    refund: Refund
    paid: asyncio.Event = field(default_factory=asyncio.Event)


class Refunds:
    """What is owed, by flow; belongs to one event loop."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        # the flow that is first is the next: one that could not be paid is the last
        self._owed: OrderedDict[FlowKey, list[_Owed]] = OrderedDict()
        self._any = asyncio.Event()
        self._ending = asyncio.Event()

    async def pay(self, flow: FlowKey, refund: Refund) -> None:
        """Have a refund made, and wait to see it for a moment; it is made also when nobody waits any more."""
        owed = _Owed(refund)
        self._owed.setdefault(flow, []).append(owed)
        self._any.set()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await owed.paid.wait()
        except TimeoutError:
            log.warning("refund.late", model=flow.model)

    async def keep_paying(self) -> None:
        """Make refunds as they come, until told to end and nothing is owed."""
        while True:
            failed = 0
            while self._owed and failed < len(self._owed):
                failed = 0 if await self._pay_next() else failed + 1
            if self._owed:
                await asyncio.sleep(PAUSE_SECONDS)
            elif self._ending.is_set():
                return
            else:
                self._any.clear()
                await self._any.wait()

    def end(self) -> None:
        """Let `keep_paying` come to its end, once all is paid."""
        self._ending.set()
        self._any.set()

    def note_lost(self) -> None:
        """Say what is still owed, when nobody pays any more."""
        for flow, owed in self._owed.items():
            log.warning("refund.lost", model=flow.model, refunds=len(owed))

    async def _pay_next(self) -> bool:
        """Make the refunds of one flow; whether that went well."""
        flow, owed = next(iter(self._owed.items()))
        several = owed[:AT_ONCE]
        try:
            await self._pay(flow, several)
        except SQLAlchemyError as error:
            log.warning("refund.put_off", model=flow.model, error=type(error).__name__)
            self._owed.move_to_end(flow)
            return False
        except Exception:
            # a fault of one refund must not end all others
            log.exception("refund.failed", model=flow.model)
        del owed[: len(several)]
        if owed:
            self._owed.move_to_end(flow)
        else:
            del self._owed[flow]
        for each in several:
            each.paid.set()
        return True

    async def _pay(self, flow: FlowKey, several: list[_Owed]) -> None:
        async with self._sessions() as session:
            # the connections are those on which each statement is a transaction, but for this one
            await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
            await session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            for each in several:
                await session.run_sync(each.refund)
            try:
                await session.commit()
            except SQLAlchemyError as error:
                # perhaps it is committed: it is not to be paid back twice
                log.warning("refund.unheard", model=flow.model, error=type(error).__name__)
