"""Transactions that take long or wait for others, in turns: a tenant's own must not hold every connection.

Those who need what is locked hold a connection while they wait for it. So nobody waits for long, and of a
tenant few do at a time. Where one statement charges a flow, or stores a submit, it is only held to its
tenant's share: what it needs is locked for moments, and to say how long it may wait would take another one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Services
from api.turns import Turns

LOCK_SECONDS: Final = 5
"""So long what another transaction holds is waited for."""


@asynccontextmanager
async def writing(services: Services, turns: Turns, tenant: str) -> AsyncIterator[AsyncSession]:
    """A transaction in a turn of the tenant, committed at its end.

    Raises:
        BusyError: the turn did not come in time; what is locked for too long is answered alike.
    """
    async with turns.one(tenant), services.sessions.begin() as session:
        # here, and not of the connection: behind PgBouncer that is another one for each transaction
        await session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        yield session
