"""The files that a job made: a summary, its report, and the rows behind it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.conditional import IfNoneMatch
from api.deps import Reader, ServicesDep
from api.lookup import find_kept_job
from api.ranges import IfRange, Range
from api.stored import send_file
from jobs import queries
from jobs.errors import NoResultYetError
from jobs.files import file_of

router = APIRouter(prefix="/v1/jobs/{job_id}/files", tags=["results"])

_BINARY: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


# in no schema: it is the GET, less the body
@router.head("/{name}", include_in_schema=False)
@router.get(
    "/{name}",
    summary="Fetch a file",
    response_class=Response,
    responses={
        200: {"content": _BINARY},
        206: {"content": _BINARY, "description": "The part that `Range` asked for."},
        304: {"description": "It is as the client knows it."},
        404: {"description": "There is no such job, it has no such file, or it is not done."},
        410: {"description": "The results of the job were removed."},
        416: {"description": "Nothing of it is in that range (`range-not-satisfiable`)."},
    },
)
async def fetch_file(
    job_id: str,
    name: Annotated[str, Path(max_length=100, description="As the job's item says: `summary.json`, ...")],
    request: Request,
    caller: Reader,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """A file that a summary made. It never changes; parts of it can be fetched."""
    async with services.sessions() as session:
        job = await find_kept_job(session, caller.tenant, job_id)
        result = await session.scalar(queries.result_of(job.id, 0))
    if result is None:
        raise NoResultYetError
    file = file_of(caller.tenant, job.id, result.payload, name)
    return await send_file(
        services,
        file,
        disposition="inline",
        if_none_match=if_none_match,
        range_=range_,
        if_range=if_range,
        bare=request.method == "HEAD",
    )
