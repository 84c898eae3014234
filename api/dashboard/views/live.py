"""The stream by which a page hears that something it shows has changed."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from api.dashboard import live
from api.dashboard.live import Follower, Topic
from api.dashboard.lookup import find_job
from api.dashboard.visitor import Looking, Visitor, find_visitor
from api.deps import ServicesDep
from api.errors import TooManyStreamsError
from api.streams import EventStream
from jobs import changes
from jobs.errors import InvalidRequestError, SignedOutError

router = APIRouter()

JOB: Final = "job:"


@router.get("/live")
async def read_changes(
    request: Request,
    visitor: Looking,
    services: ServicesDep,
    topic: Annotated[list[str], Query(max_length=live.MOST_TOPICS)],
) -> Response:
    """Server-sent events, each of which names a topic that has changed; what has changed is not said."""
    hub, streams = live.hub_of(request), live.streams_of(request)
    streams.check_room()
    if not hub.has_room_for(visitor.account_id):
        raise TooManyStreamsError
    # a session for the look alone: the stream holds no connection
    async with services.reading() as session:
        topics = frozenset([await _topic(session, visitor, name) for name in set(topic)])

    async def is_signed_in() -> bool:
        try:
            await find_visitor(request)
        except SignedOutError:
            return False
        except SQLAlchemyError:
            return True
        return True

    events = live.follow(
        hub,
        request,
        services.reading,
        Follower(visitor.account_id, topics),
        returns="Last-Event-ID" in request.headers,
        is_closed=lambda: services.waiting.is_closed,
        is_signed_in=is_signed_in,
    )
    # what lies between must not hold events back
    return EventStream(streams, events, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _topic(session: AsyncSession, visitor: Visitor, name: str) -> Topic:
    """What is followed.

    Raises:
        NotFoundError: it is a job that the visitor does not see.
        InvalidRequestError: there is no such topic.
    """
    if name.startswith(JOB):
        job = await find_job(session, visitor, name.removeprefix(JOB))
        return Topic(name, job_id=job.id)
    if name not in changes.OF_ALL:
        raise InvalidRequestError("There is no such topic.", pointer="/topic")
    return Topic(name, visitor.tenant)
