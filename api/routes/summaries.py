"""Summarising a job over an image set."""

import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api import bodies
from api.analysing import job_named, submit_analysis
from api.deps import ServicesDep
from api.once import IDEMPOTENCY_KEY, once_of
from api.room import SubmitterWithRoom
from api.schemas import jobs as schema
from api.schemas.ids import parse_job_id
from api.schemas.summaries import SummaryRequest
from jobs.summaries import OTHER, REFERENCE, Beside, SummaryTerms, submit_summary
from models.job import Job
from models.types import Made

router = APIRouter(prefix="/v1/jobs/{job_id}/summaries", tags=["jobs"])

BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SummaryRequest"}}},
    },
}


@router.post(
    "",
    status_code=202,
    summary="Summarise a job over an image set",
    openapi_extra=BODY,
    responses={
        202: {"description": "The new job is stored and queued. `Location` names it."},
        404: {"description": "There is no such job."},
        409: {
            "description": "It has not ended (`not-ended`), is no lens over an image set (`not-over-set`), or"
            " nothing of it succeeded (`nothing-to-summarise`)."
        },
        410: {"description": "It was deleted (`job-deleted`), or its results were (`results-expired`)."},
        422: {
            "description": "A job to set it beside is unknown (`unknown-job`), or cannot be (`incomparable`)."
        },
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
    },
)
async def summarise_job(
    job_id: str, request: Request, response: Response, caller: SubmitterWithRoom, services: ServicesDep
) -> schema.JobView:
    """Make a job of its own that says what a lens found over a whole set, layer by layer, with intervals.

    It may be set beside another job over the version, and its version beside another one.

    It has one item, whose `files` are fetched at `/v1/jobs/{id}/files/{name}`: `summary.json`,
    `items.parquet`, `layers.parquet`, `embeddings.parquet`, `errors.jsonl`. It runs on a worker of the queue
    `analysis`.
    """
    wanted = await bodies.read_optional(request, SummaryRequest)
    once, of = once_of(request, Made.JOB, wanted), parse_job_id(job_id)
    terms = SummaryTerms(wanted.seed, wanted.tags, caller.key_id)
    beside = Beside(
        other=None if wanted.compare_with is None else job_named(wanted.compare_with, OTHER),
        same_truth=wanted.same_truth or None,
        reference=None if wanted.drift_from is None else job_named(wanted.drift_from, REFERENCE),
    )

    def submit(session: Session, job_id: uuid.UUID | None) -> Job:
        return submit_summary(session, caller.tenant, of, terms, beside=beside, job_id=job_id)

    return await submit_analysis(services, caller, response, once, submit)
