"""The results of a job, page by page."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import Reader, SessionDep
from api.lookup import find_kept_job
from api.schemas import results as schema
from jobs import queries

router = APIRouter(prefix="/v1/jobs/{job_id}/results", tags=["results"])

MAX_PAGE = 200
"""Items of a page: a lens of the largest models has some 40 kB, and rendering it holds up other requests."""


@router.get(
    "",
    summary="Fetch results",
    response_model_exclude_unset=True,
    responses={
        404: {"description": "There is no such job."},
        410: {"description": "The results were removed, `result_ttl_s` after the job ended."},
    },
)
async def read_results(
    job_id: str,
    caller: Reader,
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    page_token: str | None = None,
) -> schema.ResultsPage:
    """A page of results by index; readable while the job runs."""
    after = schema.decode_token(page_token)
    job = await find_kept_job(session, caller.tenant, job_id)
    found = await session.scalars(queries.results_page(job.id, after=after, limit=limit))
    return schema.page(found.all(), limit)
