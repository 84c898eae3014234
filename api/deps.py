"""What routes depend on: the process' services, a session, and who is calling."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api.backlog import Backlog
from api.errors import RateLimitedError
from api.exchange import exchange_of
from api.exports.exporter import Exporter
from api.fetching import Fetcher
from api.parameters import refuse_unknown_query
from api.rate_limits import RateLimits
from api.readings import Readings
from api.refunds import Refunds
from api.schemas.ids import key_id
from api.settings import ApiSettings
from api.spool import Bounds, Spool, hold_of
from api.streams import Streams
from api.turns import Turns
from api.usage import Usage
from api.waiting import Waiting
from engine.catalog import Catalog
from jobs.audit import Actor
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.egress import Egress
from jobs.errors import InsufficientScopeError, InvalidKeyError, UnauthenticatedError
from jobs.keys import KEY, hash_key
from models.types import Scope

_bearer = HTTPBearer(
    scheme_name="bearer", auto_error=False, description="An API key: `Authorization: Bearer lq_...`"
)


@dataclass(frozen=True, slots=True)
class Services:
    """What one API process holds; made in `api.app`."""

    settings: ApiSettings
    sessions: async_sessionmaker[AsyncSession]
    engine: AsyncEngine
    """Connections on which each statement is a transaction."""
    reading: async_sessionmaker[AsyncSession]
    """Sessions over them, for what only reads."""
    direct: Turns
    """At these connections, for what writes: keys are read by them too."""
    quick: Turns
    """At those of `sessions`, for what is over soon."""
    slow: Turns
    """For what may take long."""
    ending: Turns
    """For cancels and deletes, which may wait for what is to end: nothing else is to wait for them."""
    refunds: Refunds
    inviter: Inviter
    blobs: BlobStore
    bodies: Spool
    """What all bodies hold that are being read."""
    archives: Bounds
    """Of what is sent to be added to a set."""
    catalog: Catalog
    schema_head: str
    waiting: Waiting
    backlog: Backlog
    limits: RateLimits
    usage: Usage
    egress: Egress
    fetcher: Fetcher
    exporter: Exporter
    streams: Streams
    readings: Readings


def services_of(request: Request) -> Services:
    """The services of this process."""
    return cast("Services", request.app.state.services)


async def get_services(request: Request) -> Services:
    """The same, as a dependency: one that is not async would be called in a thread."""
    return services_of(request)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for the request; routes that write commit it themselves.

    A commit after `yield` comes after the response: a client could hear 202 of a job that was never stored.
    """
    async with services_of(request).sessions() as session:
        yield session


async def open_reading(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for a request that only reads."""
    async with services_of(request).reading() as session:
        yield session


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key, whose tenant's things it may see and do what its scopes say with."""

    key_id: uuid.UUID
    tenant: str
    scopes: frozenset[Scope]

    @property
    def actor(self) -> Actor:
        """Who the audit says that it was."""
        return Actor(key_id(self.key_id))


async def get_caller(
    request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Whose key it is; runs before any of the body is read.

    Raises:
        UnauthenticatedError: no key was sent.
        InvalidKeyError: the key is unknown, revoked or expired.
        RateLimitedError: it made too many requests, or its address tried too many bad keys.
    """
    if key is None or not key.credentials.strip():
        raise UnauthenticatedError
    services, secret = services_of(request), key.credentials.strip()
    limits, sha256 = services.limits, hash_key(secret)
    address = request.client.host if request.client else None
    limits.check_stranger(address, sha256)
    # a connection of its own: an upload that lasts minutes must not hold one
    async with services.engine.connect() as connection:
        row = (await connection.execute(KEY, {"sha256": sha256})).one_or_none()
    if row is None:
        limits.note_bad_key(address, sha256)
        raise InvalidKeyError
    limits.note_good_key(sha256)
    hold_of(request).belong_to(row.tenant)
    _take_one(request, limits, row)
    return Caller(row.id, row.tenant, frozenset(map(Scope, row.scopes)))


def _take_one(request: Request, limits: RateLimits, row: Row[Any]) -> None:
    exchange = exchange_of(request)
    exchange.key_id = row.id
    allowed, standing = limits.take(row.id, row.requests_per_minute)
    if standing is None:
        return
    exchange.headers = standing.headers()
    if not allowed:
        raise RateLimitedError(
            f"This key may make {standing.limit} requests a minute: wait {standing.resets_in_s} seconds.",
            retry_after_s=standing.resets_in_s,
        )


def _allowed(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    named = " or ".join(f"`{scope}`" for scope in scopes)

    async def check(
        caller: Annotated[Caller, Depends(get_caller)],
        # behind the key: whoever has none hears of nothing else
        _: Annotated[None, Depends(refuse_unknown_query)],
    ) -> Caller:
        if caller.scopes.isdisjoint(scopes):
            raise InsufficientScopeError(f"This needs a key with the scope {named}.")
        return caller

    return check


ServicesDep = Annotated[Services, Depends(get_services)]
SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
ReadingDep = Annotated[AsyncSession, Depends(open_reading, scope="function")]
Reader = Annotated[Caller, Depends(_allowed(Scope.READ))]
Submitter = Annotated[Caller, Depends(_allowed(Scope.SUBMIT))]
Admin = Annotated[Caller, Depends(_allowed(Scope.ADMIN))]
ReaderOrAdmin = Annotated[Caller, Depends(_allowed(Scope.READ, Scope.ADMIN))]
