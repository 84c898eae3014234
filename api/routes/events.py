"""Events of a job, as they happen."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from api.deps import Reader, ServicesDep
from api.following import follow_events, look
from api.schemas.events import parse_last_event_id
from api.streams import EventStream

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["jobs"])

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=100,
        description="The id of the last event that the client has: the stream goes on behind it.",
    ),
]


@router.get(
    "",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "The events; the stream ends behind `done`.",
        },
        204: {"description": "The client has heard that the job is done: it need not come back."},
        404: {"description": "There is no such job."},
        410: {"description": "Its results were removed, `result_ttl_s` after it ended."},
        503: {"description": "As many follow a job already as may (`too-many-streams`): poll it instead."},
    },
)
async def read_events(
    job_id: str,
    request: Request,
    caller: Reader,
    services: ServicesDep,
    items: Annotated[bool, Query(description="Whether to tell of each item that is finished.")] = True,
    last_event_id: LastEventId = None,
) -> Response:
    """What happens to a job, as server-sent events.

    First `state`, and again whenever it changes; `progress` with the counts; an `item` for each that is
    finished, in the order in which they were counted; and `done` with the job, behind which nothing comes.
    Items have ids: a client that comes back with `Last-Event-ID`, as browsers do by themselves, misses none
    and has none twice. A comment every 15 seconds says that the connection stands.
    """
    after = parse_last_event_id(last_event_id)
    await look(services, caller.tenant, job_id)
    if after is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    services.streams.check_room()
    events = follow_events(services, request, caller.tenant, job_id, after=after, items=items)
    # what lies between must not hold events back
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(services.streams, events, headers)
