"""What the store has of an item, as answers: found, drawn, or sent whole or in part; for every door alike."""

import asyncio
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.conditional import REVALIDATED, etag_of, matches
from api.deps import Services
from api.ranges import cut
from jobs import queries
from jobs.errors import ItemDroppedError, NoResultYetError, NotFoundError
from jobs.files import KeptFile
from jobs.filling import Tables
from jobs.objects import ObjectName, Span, stream_span
from jobs.outputs import StoredArray
from models.job import Job, Result

BYTES: Final = "application/octet-stream"
KEPT: Final = "private, max-age=300"
"""What an item's result says never changes: whoever moves a slider over it need not ask again."""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""A report is a page of this origin that shows what others named: it may run and fetch nothing."""


async def find_result(session: AsyncSession, job: Job, index: int) -> Result:
    """The result of one of a job's items.

    Raises:
        NotFoundError: the job has no such item.
        NoResultYetError: it was not run yet.
        ItemDroppedError: it never will be.
    """
    if index >= job.total:
        raise NotFoundError(f"The job has {job.total} items, the last is {job.total - 1}.")
    result = await session.scalar(queries.result_of(job.id, index))
    if result is None:
        raise ItemDroppedError if job.ended_at else NoResultYetError
    return result


async def fill(services: Services, tenant: str, result: Result) -> Result:
    """The result with all that it says, some of it from files: to be asked while no connection is held."""
    return await asyncio.to_thread(Tables(services.blobs, tenant).fill, result)


async def send_made(
    if_none_match: list[str] | None, identity: tuple[object, ...], media_type: str, make: Callable[[], bytes]
) -> Response:
    """What is made of an item in a thread, unless the client has it; `identity` is all it depends on."""
    headers = item_headers(etag_of(repr(identity)))
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(await asyncio.to_thread(make), media_type=media_type, headers=headers)


def item_headers(etag: str) -> dict[str, str]:
    """What every answer says that is made of an item."""
    return {"ETag": etag, "Cache-Control": KEPT, "X-Content-Type-Options": "nosniff"}


async def send_array(
    services: Services,
    array: StoredArray,
    *,
    if_none_match: list[str] | None,
    range_: str | None,
    if_range: str | None,
) -> Response:
    """An item's array as it was stored, or a part of it.

    Raises:
        BlobMissingError: it was removed.
    """
    headers = item_headers(etag_of(repr(array)))
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part, status, said = cut(range_, if_range, headers["ETag"], array.span.length)
    pieces = await _read(services, array.object, array.span, part)
    headers["Content-Disposition"] = f'attachment; filename="{array.file_name}"'
    return StreamingResponse(pieces, status, media_type=BYTES, headers=headers | said)


async def send_file(
    services: Services,
    file: KeptFile,
    *,
    disposition: str,
    if_none_match: list[str] | None,
    range_: str | None,
    if_range: str | None,
    bare: bool,
) -> Response:
    """A file that a job made, or a part of it; `bare` is the same without a body, for HEAD.

    Raises:
        BlobMissingError: it was removed.
    """
    tag = f'"{file.sha256}"'
    headers = {
        "ETag": tag,
        "Cache-Control": REVALIDATED,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
    }
    if matches(if_none_match, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part, status, said = cut(None if bare else range_, if_range, tag, file.span.length)
    pieces = iter(()) if bare else await _read(services, file.object, file.span, part)
    headers["Content-Disposition"] = f'{disposition}; filename="{file.name}"'
    return StreamingResponse(pieces, status, media_type=file.media_type, headers=headers | said)


async def _read(services: Services, name: ObjectName, whole: Span, part: Span) -> Iterator[bytes]:
    span = Span(whole.offset + part.offset, part.length)
    return await asyncio.to_thread(stream_span, services.blobs, name, span)
