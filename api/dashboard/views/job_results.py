"""What a job found, to be kept: all of its results as one file, and the files that it made."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.conditional import IfNoneMatch
from api.dashboard.lookup import find_kept_job
from api.dashboard.views.job import PREFIX, WireId
from api.dashboard.visitor import Looking
from api.deps import ServicesDep
from api.exports.answers import answer
from api.exports.formats import FORMATS
from api.ranges import IfRange, Range
from api.stored import send_file
from jobs import queries
from jobs.errors import NoResultYetError, NotFoundError
from jobs.files import file_of

router = APIRouter(prefix=PREFIX)


@router.get("/results.{format_name}")
async def fetch_results(
    wire_id: WireId,
    format_name: str,
    visitor: Looking,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """All results there are, as a file."""
    if format_name not in FORMATS:
        raise NotFoundError
    async with services.sessions() as session:
        job = await find_kept_job(session, visitor, wire_id)
    return await answer(
        services,
        # as many at a time as a key may
        visitor.account_id,
        job,
        FORMATS[format_name],
        if_none_match=if_none_match,
        range_=range_,
        if_range=if_range,
        bare=False,
    )


@router.get("/files/{name}")
async def fetch_file(
    wire_id: WireId,
    name: Annotated[str, Path(max_length=100)],
    visitor: Looking,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """A file that it made: kept by the browser, never shown as a page of this origin."""
    async with services.sessions() as session:
        job = await find_kept_job(session, visitor, wire_id)
        result = await session.scalar(queries.result_of(job.id, 0))
    if result is None:
        raise NoResultYetError
    return await send_file(
        services,
        file_of(job.tenant, job.id, result.payload, name),
        disposition="attachment",
        if_none_match=if_none_match,
        range_=range_,
        if_range=if_range,
        bare=False,
    )
