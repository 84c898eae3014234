"""The hub: tells pages which of their topics has changed, by one look for all that are open.

It looks while somebody listens, once a second, and each topic the more seldom the longer a look at it takes.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.streams import Streams
from jobs import changes

log = structlog.get_logger()

TICK_SECONDS: Final = 1.0
DATABASE_AWAY_SECONDS: Final = 3.0
HEARTBEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 60.0
"""So often it is looked whether somebody is still signed in."""
SHARE: Final = 20
"""A look at a topic that takes so long is made no sooner than so many times later."""
MOST_STREAMS: Final = 500
"""Pages of all accounts that one process tells of changes; others ask every 5 seconds."""
MOST_TOPICS: Final = 20
"""Of one page."""
MOST_OF_ACCOUNT: Final = 30
"""Pages of one account that are open at a time."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What is followed, by its name on the wire: the whole of it, or what a tenant has; or one job."""

    name: str
    tenant: str | None = None
    job_id: uuid.UUID | None = None


@dataclass(slots=True, eq=False)
class Follower:
    """One page that is open, and which of its topics have changed since it was told."""

    account_id: uuid.UUID
    topics: frozenset[Topic]
    changed: set[str] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Seen:
    mark: Any
    look_again_at: float


class Hub:
    """Who follows what in this process; belongs to one event loop."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()
        self._seen: dict[Topic, _Seen] = {}
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many pages are open."""
        return len(self._followers)

    def has_room_for(self, account_id: uuid.UUID) -> bool:
        """Whether one more page of an account may follow."""
        return sum(follower.account_id == account_id for follower in self._followers) < MOST_OF_ACCOUNT

    def enter(
        self,
        sessions: async_sessionmaker[AsyncSession],
        follower: Follower,
        is_closed: Callable[[], bool],
    ) -> None:
        """Let a page be told from now on."""
        self._followers.add(follower)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(sessions, is_closed))

    def leave(self, follower: Follower) -> None:
        """And no more."""
        self._followers.discard(follower)

    async def _watch(self, sessions: async_sessionmaker[AsyncSession], is_closed: Callable[[], bool]) -> None:
        while self._followers and not is_closed():
            pause_seconds = TICK_SECONDS
            try:
                async with sessions() as session:
                    await self._look(session)
            except SQLAlchemyError as error:
                log.warning("live.database_lost", pages=len(self._followers), error=type(error).__name__)
                pause_seconds = DATABASE_AWAY_SECONDS
            except Exception:
                # a fault of one look must not leave all pages as they are
                log.exception("live.failed")
                pause_seconds = DATABASE_AWAY_SECONDS
            await asyncio.sleep(pause_seconds)
        # whoever comes now begins anew; those that are here are to end
        self._seen.clear()
        for follower in self._followers:
            follower.woken.set()

    async def learn(self, session: AsyncSession, topics: Iterable[Topic]) -> None:
        """Note how things are with topics that nobody followed so far: what comes after is told."""
        for topic in topics:
            if topic not in self._seen:
                mark = await session.scalar(*_statement(topic))
                # the watcher may have been quicker: then its mark is the older one
                self._seen.setdefault(topic, _Seen(mark, 0.0))

    async def _look(self, session: AsyncSession) -> None:
        followed = {topic for follower in self._followers for topic in follower.topics}
        for topic in self._seen.keys() - followed:
            del self._seen[topic]
        for topic in followed:
            seen = self._seen.get(topic)
            begun = time.monotonic()
            if seen is not None and begun < seen.look_again_at:
                continue
            mark = await session.scalar(*_statement(topic))
            ended = time.monotonic()
            self._seen[topic] = _Seen(mark, ended + SHARE * (ended - begun))
            if seen is not None and mark != seen.mark:
                self._tell(topic)

    def _tell(self, topic: Topic) -> None:
        for follower in self._followers:
            if topic in follower.topics:
                follower.changed.add(topic.name)
                follower.woken.set()


def _statement(topic: Topic) -> tuple[Any, dict[str, Any]]:
    if topic.job_id is not None:
        return changes.OF_JOB, {"job_id": topic.job_id}
    if topic.tenant is None or topic.name not in changes.OF_ONE:
        return changes.OF_ALL[topic.name], {}
    return changes.OF_ONE[topic.name], {"tenant": topic.tenant}


async def follow(
    hub: Hub,
    request: Request,
    sessions: async_sessionmaker[AsyncSession],
    follower: Follower,
    *,
    returns: bool,
    is_closed: Callable[[], bool],
    is_signed_in: Callable[[], Awaitable[bool]],
) -> AsyncIterator[bytes]:
    """The events of a page, until its session ends or the process does.

    A browser that returns hears of all topics at once, since it may have missed any; so does one whose page
    may be of before the last thing that happened.
    """
    clock = asyncio.get_running_loop().time
    gone = asyncio.create_task(_until_gone(request))
    gone.add_done_callback(lambda _: follower.woken.set())
    hub.enter(sessions, follower, is_closed)
    checked_at = clock()
    try:
        async with sessions() as session:
            await hub.learn(session, follower.topics)
            if returns or await session.scalar(changes.LATELY):
                follower.changed.update(topic.name for topic in follower.topics)
        # an id without data is no event: by it a browser says that it was here before
        yield b"retry: 2000\nid: 1\n\n" + _events(follower)
        while not is_closed() and not gone.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(follower.woken.wait(), HEARTBEAT_SECONDS)
            follower.woken.clear()
            if clock() - checked_at >= CHECK_SECONDS:
                if not await is_signed_in():
                    return
                checked_at = clock()
            if is_closed() or gone.done():
                return
            yield _events(follower) or b": all is well\n\n"
    finally:
        gone.cancel()
        hub.leave(follower)


def _events(follower: Follower) -> bytes:
    told = sorted(follower.changed)
    follower.changed.clear()
    return b"".join(b"event: changed\ndata: %s\n\n" % topic.encode() for topic in told)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def hub_of(request: Request) -> Hub:
    """The hub of this process."""
    return cast("Hub", request.app.state.hub)


def streams_of(request: Request) -> Streams:
    """How many pages it tells."""
    return cast("Streams", request.app.state.streams)
