"""Lists of jobs: found by what they are, newest first."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api.deps import Reader, ReadingDep
from api.schemas import jobs as schema
from api.schemas.listing import PageToken, job_filter, next_link
from api.schemas.pages import cut, decode_token
from jobs.listing import JobFilter, jobs_page
from jobs.outlook import outlooks

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_PAGE = 200


@router.get(
    "",
    summary="List jobs",
    responses={
        200: {
            "headers": {
                "Link": {
                    "description": 'The next page, as `rel="next"`; absent on the last one.',
                    "schema": {"type": "string"},
                }
            }
        }
    },
)
async def list_jobs(
    request: Request,
    response: Response,
    caller: Reader,
    session: ReadingDep,
    wanted: Annotated[JobFilter, Depends(job_filter)],
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    page_token: PageToken = None,
) -> schema.JobsPage:
    """Your jobs, newest first, without those that were deleted.

    Pages are stable: what is submitted meanwhile comes before the first one. How many there are in all is not
    counted.
    """
    before = decode_token(page_token)
    found = (await session.scalars(jobs_page(caller.tenant, wanted, before=before, limit=limit))).all()
    shown, token = cut(found, limit)
    before_them = await session.run_sync(outlooks, [job.id for job in shown])
    if token is not None:
        response.headers.update(next_link(request.url.path, request.query_params.multi_items(), token))
    return schema.JobsPage(
        items=[schema.view(job, before_them[job.id], listed=True) for job in shown], next_page_token=token
    )
