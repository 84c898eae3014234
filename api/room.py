"""Refusing a large submit before its body is read, where there is no room for any job."""

from typing import Annotated

from fastapi import Depends, Request

from api.deps import Caller, Services, ServicesDep, Submitter
from api.once import key_of
from jobs import idempotency
from jobs.admission import check_room
from jobs.errors import QuotaExceededError

LARGE_BODY_BYTES = 1024 * 1024
"""A smaller body is read in less time than it takes to ask."""


async def _with_room(request: Request, caller: Submitter, services: ServicesDep) -> Caller:
    """The caller, unless `refuse_without_room` refuses its tenant."""
    await refuse_without_room(request, services, caller.tenant)
    return caller


async def refuse_without_room(request: Request, services: Services, tenant: str) -> None:
    """Refuse a tenant whose quota is used up, and for whom much is about to be sent.

    Raises:
        QuotaExceededError: it is; a job that is sent again is taken all the same.
    """
    declared = request.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared) <= LARGE_BODY_BYTES:
        return
    async with services.sessions() as session:
        try:
            await session.run_sync(check_room, tenant, services.settings.quota())
        except QuotaExceededError:
            key = key_of(request)
            # in this order: its twin may have just taken the room
            if key is None or not await session.scalar(idempotency.is_known(tenant, key)):
                raise


SubmitterWithRoom = Annotated[Caller, Depends(_with_room)]
