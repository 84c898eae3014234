"""What routes depend on: the process' services, a session, and who is calling."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.backlog import Backlog
from api.exports.exporter import Exporter
from api.settings import ApiSettings
from api.streams import Streams
from api.waiting import Waiting
from engine.catalog import Catalog
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.errors import InsufficientScopeError, InvalidKeyError, UnauthenticatedError
from jobs.keys import key_of
from models.types import Scope

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
    exporter: Exporter
    streams: Streams


def get_services(request: Request) -> Services:
    """The services of this process."""
    return cast("Services", request.app.state.services)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for the request; routes that write commit it themselves.

    A commit after `yield` comes after the response: a client could hear 202 of a job that was never stored.
    """
    async with get_services(request).sessions() as session:
        yield session


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key, whose tenant's things it may see and do what its scopes say with."""

    key_id: uuid.UUID
    tenant: str
    scopes: frozenset[Scope]


async def get_caller(
    request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Whose key it is; runs before any of the body is read.

    Raises:
        UnauthenticatedError: no key was sent.
        InvalidKeyError: the key is unknown, revoked or expired.
    """
    if key is None or not key.credentials.strip():
        raise UnauthenticatedError
    # a session of its own: an upload that lasts minutes must not hold a connection
    async with get_services(request).sessions() as session:
        row = await session.scalar(key_of(key.credentials.strip()))
    if row is None:
        raise InvalidKeyError
    return Caller(row.id, row.tenant, frozenset(map(Scope, row.scopes)))


def _allowed(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def check(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
        if scope not in caller.scopes:
            raise InsufficientScopeError(f"This needs a key with the scope `{scope}`.")
        return caller

    return check


ServicesDep = Annotated[Services, Depends(get_services)]
SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
Reader = Annotated[Caller, Depends(_allowed(Scope.READ))]
Submitter = Annotated[Caller, Depends(_allowed(Scope.SUBMIT))]
Admin = Annotated[Caller, Depends(_allowed(Scope.ADMIN))]
