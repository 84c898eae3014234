"""Trying a job again."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api import bodies
from api.deps import ServicesDep, Submitter
from api.once import IDEMPOTENCY_KEY, REPLAYED, once_of
from api.retrying import Who
from api.retrying import retry_job as retry_once
from api.routes.jobs import POLL_SECONDS
from api.schemas import jobs as schema
from api.schemas.ids import parse_job_id
from api.schemas.retries import RetryRequest
from models.types import Made

router = APIRouter(prefix="/v1/jobs/{job_id}/retry", tags=["jobs"])

BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RetryRequest"}}},
    },
}


@router.post(
    "",
    status_code=202,
    summary="Try a job again",
    openapi_extra=BODY,
    responses={
        202: {"description": "The new job is stored and queued. `Location` names it."},
        404: {"description": "There is no such job."},
        409: {
            "description": "It has not ended (`not-ended`), all of it succeeded (`nothing-to-retry`), or it"
            " is an ingestion that was tried again before (`already-retried`): retry the newest of its tries."
        },
        410: {
            "description": "It was deleted (`job-deleted`), or its results were removed, so that nobody knows"
            " which of its items failed (`results-expired`)."
        },
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
        503: {"description": "The queue is full (`queue-full`): try again after `Retry-After`."},
    },
)
async def retry_job(
    job_id: str, request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.JobView:
    """Make a new job of the items that failed or were dropped, or of all: with the same options and terms.

    They are numbered anew from 0, in their order; each result tells its former `retry_of_index`. The end is
    told to the same webhook endpoint, as any job's: to nobody while it is disabled, or when it was deleted.
    """
    wanted = await bodies.read_optional(request, RetryRequest)
    once = once_of(request, Made.JOB, wanted)
    who = Who(caller.tenant, caller.key_id)
    accepted = await retry_once(services, who, parse_job_id(job_id), wanted.scope, once)
    job = accepted.job
    if accepted.new:
        services.usage.count_job(caller.key_id, job.total, job.cost)
        services.inviter.invite(job.model, job.id)
    else:
        response.headers.update(REPLAYED)
    shown = schema.view(job, accepted.outlook)
    response.headers["Location"] = shown.links.self
    if not shown.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return shown
