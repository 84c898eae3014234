"""Setting two jobs over image sets side by side: comparisons, and drifts."""

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
from api.schemas.pairs import ComparisonRequest, DriftRequest
from jobs.pairs import OTHER, REFERENCE, THIS, submit_comparison, submit_drift
from jobs.summaries import SummaryTerms
from models.job import Job
from models.types import Made

router = APIRouter(prefix="/v1", tags=["jobs"])

RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "The new job is stored and queued. `Location` names it."},
    409: {
        "description": "One of the two has not ended (`not-ended`), is no lens over an image set"
        " (`not-over-set`), or nothing of it succeeded (`nothing-to-summarise`)."
    },
    410: {"description": "One was deleted (`job-deleted`), or its results were (`results-expired`)."},
    422: {"description": "One is unknown (`unknown-job`), or they cannot be compared (`incomparable`)."},
    429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
}


def _body(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


@router.post(
    "/comparisons",
    status_code=202,
    summary="Compare two jobs over one version",
    openapi_extra=_body("ComparisonRequest"),
    responses=RESPONSES,
)
async def compare_jobs(
    request: Request, response: Response, caller: SubmitterWithRoom, services: ServicesDep
) -> schema.JobView:
    """Make a job that says which of two is right more often, layer by layer, on the same images.

    They may differ in their model, their labels or their wording. Its item's `files`, fetched at
    `/v1/jobs/{id}/files/{name}`, are `comparison.json` and `report.html`: the paired difference at layers of
    the same depth with its interval, McNemar's test, and the images that one has right and the other wrong.
    """
    wanted = await bodies.read_small(request, ComparisonRequest)
    once = once_of(request, Made.JOB, wanted)
    of, other = job_named(wanted.job_id, THIS), job_named(wanted.other_job_id, OTHER)
    terms = SummaryTerms(wanted.seed, wanted.tags, caller.key_id)

    def submit(session: Session, job_id: uuid.UUID | None) -> Job:
        return submit_comparison(
            session, caller.tenant, of, other, terms, same_truth=wanted.same_truth or None, job_id=job_id
        )

    return await submit_analysis(services, caller, response, once, submit)


@router.post(
    "/drifts",
    status_code=202,
    summary="Measure the drift between two versions",
    openapi_extra=_body("DriftRequest"),
    responses=RESPONSES,
)
async def measure_drift(
    request: Request, response: Response, caller: SubmitterWithRoom, services: ServicesDep
) -> schema.JobView:
    """Make a job that says how far the images of one version lie from those of another, as a model sees them.

    Both versions are named by a job of the same model over them. Its item's `files` are `drift.json` and
    `report.html`: SigLIP-MMD with a permutation test and what halves of the reference give, how well a
    classifier tells the versions apart, whether the shares of classes changed, and images that tell of it.
    """
    wanted = await bodies.read_small(request, DriftRequest)
    once = once_of(request, Made.JOB, wanted)
    of, reference = job_named(wanted.job_id, THIS), job_named(wanted.reference_job_id, REFERENCE)
    terms = SummaryTerms(wanted.seed, wanted.tags, caller.key_id)

    def submit(session: Session, job_id: uuid.UUID | None) -> Job:
        return submit_drift(session, caller.tenant, of, reference, terms, job_id=job_id)

    return await submit_analysis(services, caller, response, once, submit)
