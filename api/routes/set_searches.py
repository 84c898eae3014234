"""Searching a version of an image set."""

import uuid
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from api import bodies, searching
from api.deps import Reader, Services, ServicesDep
from api.lookup import find_job
from api.preferences import Prefer, wait_seconds
from api.routes.jobs import POLL_SECONDS
from api.schemas import jobs as job_schema
from api.schemas import set_searches as schema
from api.schemas.ids import job_id, parse_job_id, parse_version_id
from api.waiting import follow
from jobs.errors import DomainError
from jobs.outlook import outlook_of

log = structlog.get_logger()

router = APIRouter(prefix="/v1/image-set-versions/{version_id}/search", tags=["image sets"])

WAIT_SECONDS = 30
"""So long a query is waited for unless the client says how long."""
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SearchRequest"}}},
    }
}


@router.post(
    "",
    summary="Search a version",
    response_model=schema.SearchView,
    openapi_extra=BODY,
    responses={
        202: {
            "model": job_schema.JobView,
            "description": "The query is not embedded yet. `Location` names its job: when that is done,"
            " search again with it as `query_job`.",
        },
        404: {"description": "There is no such version."},
        409: {"description": "No job over the version was summarised yet (`not-indexed`)."},
        410: {
            "description": "The query job was deleted (`job-deleted`), or its results were removed"
            " (`results-expired`)."
        },
        422: {
            "description": "The version cannot be searched by that model (`wrong-model`); there is no such"
            " image (`unknown-image`) or job (`unknown-job`); the item has no vector (`no-vector`); or the"
            " query could not be embedded (`query-failed`)."
        },
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
        503: {"description": "The queue is full (`queue-full`): try again after `Retry-After`."},
    },
)
async def search_version(
    version_id: str,
    request: Request,
    response: Response,
    caller: Reader,
    services: ServicesDep,
    prefer: Prefer = None,
) -> schema.SearchView | Response:
    """The items nearest to a text, to a picture or to one of them, by the last layer's embeddings.

    A text or a picture is embedded first, by a job like any other: it is waited for as long as `Prefer: wait`
    says, 30 seconds without that.
    """
    wanted = await bodies.read_small(request, schema.SearchRequest)
    head = await searching.find_index(services, caller.tenant, parse_version_id(version_id), wanted)
    query_job = searching.query_of(wanted)
    shown = None
    if query_job is not None:
        shown = await _look(services, caller.tenant, query_job)
    elif wanted.like_index is None:
        accepted = await searching.embed(services, caller, request, head.model, wanted)
        shown = job_schema.view(accepted.job, accepted.outlook)
        query_job = accepted.job.id
    if shown is not None:
        shown = await _await(request, response, services, caller.tenant, shown, prefer)
        if not shown.done:
            headers = {"Location": shown.links.self, "Retry-After": POLL_SECONDS, **response.headers}
            return Response(
                shown.model_dump_json(), status_code=202, media_type="application/json", headers=headers
            )
    found = await searching.search(services, caller.tenant, head, wanted, query_job)
    return schema.view(head, query_job, found)


async def _await(
    request: Request,
    response: Response,
    services: Services,
    tenant: str,
    shown: job_schema.JobView,
    prefer: list[str] | None,
) -> job_schema.JobView:
    """The job once it is done, or the time is over."""
    longest = services.settings.max_wait_seconds
    preferred = wait_seconds(prefer, longest)
    seconds = min(WAIT_SECONDS, longest) if preferred is None else preferred
    wanted = parse_job_id(shown.id)
    try:
        shown, granted = await follow(
            services.waiting, request, shown, lambda: _look(services, tenant, wanted), seconds=seconds
        )
    except (SQLAlchemyError, DomainError) as error:
        # the job is stored: an error here would make the client embed it again
        log.warning("wait.given_up", job_id=shown.id, error=str(error))
        return shown
    if granted and preferred is not None:
        response.headers["Preference-Applied"] = f"wait={preferred}"
    return shown


async def _look(services: Services, tenant: str, query_job: uuid.UUID) -> job_schema.JobView:
    async with services.reading() as session:
        job = await find_job(session, tenant, job_id(query_job))
        outlook = await session.run_sync(outlook_of, job.id)
    return job_schema.view(job, outlook)
