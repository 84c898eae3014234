"""What routes depend on: the process' services, a session, and who is calling."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.backlog import Backlog
from api.settings import ApiSettings
from api.waiting import Waiting
from engine.catalog import Catalog
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.errors import InvalidKeyError, UnauthenticatedError
from jobs.keys import tenant_of

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer lq_...`")


@dataclass(frozen=True, slots=True)
class Services:
    """What one API process holds; made in `api.app`."""

    settings: ApiSettings
    sessions: async_sessionmaker[AsyncSession]
    inviter: Inviter
    blobs: BlobStore
    catalog: Catalog
    schema_head: str
    waiting: Waiting
    backlog: Backlog


def get_services(request: Request) -> Services:
    """The services of this process."""
    return cast("Services", request.app.state.services)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for the request; routes that write commit it themselves.

    A commit after `yield` comes after the response: a client could hear 202 of a job that was never stored.
    """
    async with get_services(request).sessions() as session:
        yield session


async def get_tenant(
    request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The tenant of the caller's key; runs before any of the body is read.

    Raises:
        UnauthenticatedError: no key was sent.
        InvalidKeyError: the key is unknown or revoked.
    """
    if key is None or not key.credentials.strip():
        raise UnauthenticatedError
    # a session of its own: an upload that lasts minutes must not hold a connection
    async with get_services(request).sessions() as session:
        tenant = await session.scalar(tenant_of(key.credentials.strip()))
    if tenant is None:
        raise InvalidKeyError
    return tenant


ServicesDep = Annotated[Services, Depends(get_services)]
SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
Tenant = Annotated[str, Depends(get_tenant)]
