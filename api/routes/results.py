"""The results of a job: page by page, or all of them as a file."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response

from api.conditional import REVALIDATED, IfNoneMatch, etag_of, matches
from api.deps import Reader, Services, ServicesDep
from api.exports.answers import answer
from api.exports.formats import FORMATS, PAGES, PAGES_EDITION
from api.lookup import find_kept_job
from api.negotiation import choose
from api.ranges import IfRange, Range
from api.schemas import results as schema
from jobs import queries
from jobs.errors import InvalidRequestError
from jobs.filling import Tables
from models.job import Job, Result

router = APIRouter(prefix="/v1/jobs/{job_id}/results", tags=["results"])

PAGE = 100
MAX_PAGE = 200
"""Items of a page: a lens of the largest models has some 40 kB, and rendering it holds up other requests."""

_MEDIA_TYPES = {PAGES: "json", **{made.media_type: name for name, made in FORMATS.items()}}
_FILES: dict[str, Any] = {
    made.media_type: {"schema": {"type": "string", "format": "binary"}} for made in FORMATS.values()
}


# in no schema: it is the GET, less the body
@router.head("", include_in_schema=False)
@router.get(
    "",
    summary="Fetch results",
    response_model=schema.ResultsPage,
    responses={
        200: {"content": _FILES, "description": "A page as JSON, or all results as a file."},
        206: {"content": _FILES, "description": "The part of the file that `Range` asked for."},
        304: {"description": "The file, or the page, of an ended job is as the client knows it."},
        404: {"description": "There is no such job."},
        406: {"description": "`Accept` names none of the formats (`not-acceptable`)."},
        410: {"description": "The results were removed, `result_ttl_s` after the job ended."},
        416: {"description": "Nothing of the file is in that range (`range-not-satisfiable`)."},
        429: {"description": "The key, or its tenant, fetches as many files as it may (`too-many-exports`)."},
        503: {
            "description": "The copy that parts are taken from is being made (`part-not-ready`), or there is"
            " no room for it (`blob-store-full`); or all keys fetch as many files as may be (`exports-busy`)."
        },
    },
)
async def read_results(
    job_id: str,
    request: Request,
    caller: Reader,
    services: ServicesDep,
    format: Annotated[  # noqa: A002 - its name on the wire
        Literal["json", "ndjson", "parquet", "npz"] | None,
        Query(description="Goes before `Accept`. `json` comes in pages, the others as one file."),
    ] = None,
    limit: Annotated[
        int | None, Query(ge=1, le=MAX_PAGE, description=f"Items of a page of JSON, {PAGE} unless given.")
    ] = None,
    page_token: Annotated[str | None, Query(description="Of a page of JSON: where it begins.")] = None,
    accept: Annotated[list[str] | None, Header(include_in_schema=False)] = None,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """Results by index, readable while the job runs: a page as JSON, or all that is there as one file.

    `ndjson` has the objects of the pages, one a line. `parquet` has a row an item, `npz` labelled arrays for
    numpy. Pages and files of a job that has ended never change: they have an ETag, and parts of a file can be
    fetched, so that a download that broke off goes on where it was. A copy of the file is made for the first
    request for a part, which waits for it or is told to come back.
    """
    wanted = format or _MEDIA_TYPES[choose(accept, list(_MEDIA_TYPES))]
    if wanted != "json" and (limit is not None or page_token is not None):
        pointer = "/limit" if limit is not None else "/page_token"
        raise InvalidRequestError("Only JSON comes in pages: a file has all results.", pointer=pointer)
    after = schema.decode_token(page_token)
    size = limit or PAGE
    bare = request.method == "HEAD"
    async with services.sessions() as session:
        job = await find_kept_job(session, caller.tenant, job_id)
        if wanted == "json":
            headers = _page_headers(job, after, size)
            if "ETag" in headers and matches(if_none_match, headers["ETag"]):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
            found = (await session.scalars(queries.results_page(job.id, after=after, limit=size))).all()
    if wanted != "json":
        return await answer(
            services,
            caller.key_id,
            job,
            FORMATS[wanted],
            if_none_match=if_none_match,
            range_=range_,
            if_range=if_range,
            bare=bare,
        )
    # from files, some of it
    page = schema.page(await asyncio.to_thread(_filled, services, job, found), size)
    if page.next_page_token is not None:
        query = {"format": format, "limit": limit, "page_token": page.next_page_token}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        headers["Link"] = f'</v1/jobs/{job_id}/results?{given}>; rel="next"'
    body = page.model_dump_json(exclude_unset=True).encode()
    headers["Content-Length"] = str(len(body))
    return Response(b"" if bare else body, media_type=PAGES, headers=headers)


def _filled(services: Services, job: Job, found: Sequence[Result]) -> list[Result]:
    tables = Tables(services.blobs, job.tenant)
    return [tables.fill(result) for result in found]


def _page_headers(job: Job, after: int, size: int) -> dict[str, str]:
    headers = {"Vary": "Accept"}
    if job.ended_at is not None:
        # known before anything of the page is read: of an ended job it never changes
        tag = etag_of(job.id.hex, PAGES_EDITION, str(after), str(size), weak=True)
        headers |= {"ETag": tag, "Cache-Control": REVALIDATED}
    return headers
