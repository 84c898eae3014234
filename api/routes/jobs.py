"""Jobs: submit, poll, fetch."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from api import bodies, cancellation
from api.conditional import REVALIDATED, IfNoneMatch, etag_of, matches
from api.deps import Reader, Services, ServicesDep, Submitter
from api.estimating import estimate_job
from api.lookup import find_job
from api.once import IDEMPOTENCY_KEY, REPLAYED, key_of
from api.preferences import Prefer, wait_seconds
from api.room import SubmitterWithRoom
from api.schemas import jobs as schema
from api.schemas.estimates import EstimateView
from api.schemas.ids import parse_job_id
from api.spool import hold_of, release_body
from api.submissions import accept, check_submission, source_of, submission_of
from api.waiting import follow
from api.writing import writing
from jobs import deletion
from jobs.errors import DomainError
from jobs.outlook import outlook_of

log = structlog.get_logger()

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

POLL_SECONDS = "1"


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    response_model=schema.JobView,
    responses={
        200: {
            "model": schema.JobView | EstimateView,
            "description": "It has ended: within the time of `Prefer: wait`, or before it was sent again."
            " Of a dry run: what it would come to.",
        },
        202: {"description": "It is stored and queued. `Location` names it."},
        400: {"description": "The body is no JSON (`malformed-body`)."},
        409: {
            "description": "A rescore of a job that has not ended (`not-ended`) or kept no embeddings"
            " (`embeddings-not-kept`)."
        },
        410: {"description": "A rescore of a job whose results were removed (`results-expired`)."},
        413: {"description": "The body is larger than the service takes (`body-too-large`)."},
        415: {"description": "The body is neither JSON nor multipart (`unsupported-media-type`)."},
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
        503: {
            "description": "The queue is full (`queue-full`), the disk is (`blob-store-full`), or the"
            " database is away (`unavailable`): nothing was accepted. `Retry-After` says when to try again."
        },
    },
    openapi_extra={
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["job"],
                        "additionalProperties": False,
                        "properties": {
                            "job": {"$ref": "#/components/schemas/JobRequest"},
                            "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        },
                    },
                    "encoding": {"job": {"contentType": "application/json"}},
                },
            },
        },
    },
)
async def submit_job(
    request: Request,
    response: Response,
    caller: SubmitterWithRoom,
    services: ServicesDep,
    dry_run: Annotated[
        bool,
        Query(description="Only tell what it would come to: refused as it would be, and nothing is stored."),
    ] = False,
    prefer: Prefer = None,
) -> schema.JobView | Response:
    """Accept a job, as JSON with pictures in base64 or by id, or as multipart with files, and queue it.

    With an `Idempotency-Key`, the same job sent again within 24 hours is answered with the first one.
    """
    key = key_of(request)
    wanted, uploads = await bodies.read_job(request, bodies.job_limits(services.settings))
    source = await source_of(services, caller.tenant, wanted)
    submission = submission_of(wanted, uploads, services.settings.default_model, caller.key_id, source)
    await check_submission(services, submission)
    if dry_run:
        told = await estimate_job(services, caller.tenant, submission, uploads)
        return Response(told.model_dump_json(), media_type="application/json")
    accepted = await accept(services, caller.tenant, submission, uploads, key, hold_of(request))
    job = accepted.job
    # what is kept of it is stored: a client that waits for its job holds up no other upload
    release_body(request)
    if accepted.new:
        services.usage.count_job(caller.key_id, job.total, job.cost)
        services.inviter.invite(job.model, job.id)
    else:
        response.headers.update(REPLAYED)
    shown = schema.view(job, accepted.outlook)
    response.headers["Location"] = shown.links.self
    # pictures in base64 and labels may weigh megabytes, and who waits does so for a minute
    del wanted, uploads, source, submission, accepted, job
    try:
        shown = await _await(request, response, services, caller.tenant, shown, prefer)
    except (SQLAlchemyError, DomainError) as error:
        # the job is stored: an error here would make the client send it again
        log.warning("wait.given_up", job_id=shown.id, error=str(error))
        response.headers["Retry-After"] = POLL_SECONDS
    if shown.done:
        response.status_code = HTTPStatus.OK
    return shown


@router.get(
    "/{job_id}",
    summary="Poll a job",
    response_model=schema.JobView,
    responses={
        304: {"description": "The job is as the client knows it."},
        404: {"description": "There is no such job."},
        410: {"description": "It was deleted (`job-deleted`)."},
    },
)
async def read_job(
    job_id: str,
    request: Request,
    response: Response,
    caller: Reader,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    prefer: Prefer = None,
) -> schema.JobView | Response:
    """How far a job is; `Retry-After` says when to ask again, and is absent once it is done.

    `Prefer: wait=30` waits until it is done; with `If-None-Match`, until it is not as the client knows it.
    """
    shown = await _look(services, caller.tenant, job_id)
    shown = await _await(
        request,
        response,
        services,
        caller.tenant,
        shown,
        prefer,
        known=(lambda now: matches(if_none_match, _etag(now))) if if_none_match else None,
    )
    etag = _etag(shown)
    response.headers.update({"ETag": etag, "Cache-Control": REVALIDATED})
    if matches(if_none_match, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=dict(response.headers))
    return shown


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    responses={
        200: {"description": "It is cancelled."},
        202: {
            "model": schema.JobView,
            "description": "It is being cancelled: a worker holds some of it. Poll it until it is done.",
        },
        404: {"description": "There is no such job."},
        409: {"description": "It ended in another way before (`already-ended`)."},
        410: {"description": "It was deleted (`job-deleted`)."},
    },
)
async def cancel_job(
    job_id: str, response: Response, caller: Submitter, services: ServicesDep
) -> schema.JobView:
    """Drop what waits of a job; results that it has are kept. To be sent again as often as one likes."""
    job, outlook = await cancellation.cancel_job(services, caller.tenant, parse_job_id(job_id))
    shown = schema.view(job, outlook)
    if not shown.done:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Retry-After"] = POLL_SECONDS
    return shown


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses={
        404: {"description": "There is no such job."},
        409: {"description": "It has not ended (`not-ended`): cancel it first."},
    },
)
async def delete_job(job_id: str, caller: Submitter, services: ServicesDep) -> None:
    """Forget a job that ended: from now on it, and everything beneath it, is answered with 410.

    Its pictures may be deleted at once; its results are removed soon. To be sent again as often as one likes.
    """
    wanted = parse_job_id(job_id)
    async with writing(services, services.ending, caller.tenant) as session:
        await session.run_sync(deletion.delete_job, caller.tenant, wanted)


async def _await(
    request: Request,
    response: Response,
    services: Services,
    tenant: str,
    shown: schema.JobView,
    prefer: list[str] | None,
    known: Callable[[schema.JobView], bool] | None = None,
) -> schema.JobView:
    """The job once there is what the client would wait for; with the headers that every poll has."""
    seconds = wait_seconds(prefer, services.settings.max_wait_seconds)
    if seconds is not None:
        wire_id = shown.id
        shown, granted = await follow(
            services.waiting,
            request,
            shown,
            lambda: _look(services, tenant, wire_id),
            seconds=seconds,
            known=known,
        )
        if granted:
            response.headers["Preference-Applied"] = f"wait={seconds}"
    if not shown.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return shown


async def _look(services: Services, tenant: str, wire_id: str) -> schema.JobView:
    # a session of its own: a request that waits must not hold a connection
    async with services.reading() as session:
        job = await find_job(session, tenant, wire_id)
        outlook = await session.run_sync(outlook_of, job.id)
    return schema.view(job, outlook)


def _etag(shown: schema.JobView) -> str:
    # without what changes as others are served: a poll would never be answered that nothing is new
    told = shown.model_dump_json(exclude={"progress": {"eta_s", "queue_position"}})
    return etag_of(told, weak=True)
