"""A job's results as a file, answered whole or in part."""

import asyncio
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.conditional import REVALIDATED, etag_of, matches
from api.deps import Services
from api.errors import PartNotReadyError
from api.exports.exporter import Rendering
from api.exports.formats import Format
from api.ranges import cut, wants_part
from api.schemas.ids import job_id
from jobs.copies import CopyName
from jobs.errors import BlobMissingError
from jobs.objects import stream_span
from models.job import Job

UNKEPT: Final = "no-store"
"""Of a job that still runs: the next answer has more."""


class RenderedResponse(StreamingResponse):
    """An export that is sent while it is rendered, and counted for so long, however it ends."""

    def __init__(self, rendering: Rendering, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(rendering.pieces, media_type=media_type, headers=headers)
        self._taken = rendering.taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._taken.give_back()


async def answer(
    services: Services,
    key_id: uuid.UUID,
    job: Job,
    made: Format,
    *,
    if_none_match: list[str] | None,
    range_: str | None,
    if_range: str | None,
    bare: bool,
) -> Response:
    """The export: streamed as it is made; from a stored copy once somebody asked for a part of it.

    `bare` is the same without a body, for HEAD: then nothing is rendered, and no part is asked for.

    Raises:
        RangeNotSatisfiableError: the range lies behind the end.
        ResultsExpiredError: the results were removed meanwhile.
        BlobStoreFullError: there is no room for the copy that a part is taken from.
        PartNotReadyError: the copy is still being made.
        TooManyExportsError, ExportsBusyError: as many are rendered as may be.
    """
    headers = {
        "Vary": "Accept",
        "Content-Disposition": f'attachment; filename="{job_id(job.id)}.{made.name}"',
        "X-Content-Type-Options": "nosniff",
    }

    async def rendered() -> Response:
        if bare:
            # a stream of nothing: how long it would be is known only once it was made
            return StreamingResponse(iter(()), media_type=made.media_type, headers=headers)
        return RenderedResponse(await services.exporter.stream(key_id, job, made), made.media_type, headers)

    if job.ended_at is None:
        headers |= {"Cache-Control": UNKEPT, "Accept-Ranges": "none"}
        return await rendered()
    tag = etag_of(job.id.hex, made.name, made.edition)
    headers |= {"Cache-Control": REVALIDATED, "Accept-Ranges": "bytes", "ETag": tag}
    if matches(if_none_match, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    # by its tag: one that was stored in another edition is another copy
    name = CopyName(job.tenant, job.id, uuid.UUID(tag.strip('"')))
    size_bytes = await services.exporter.find(name)
    if bare:
        range_ = None
    if size_bytes is None and wants_part(range_, if_range, tag):
        size_bytes = await services.exporter.store(key_id, name, job, made)
    if size_bytes is None:
        return await rendered()
    span, status, said = cut(range_, if_range, tag, size_bytes)
    try:
        pieces = iter(()) if bare else await asyncio.to_thread(stream_span, services.blobs, name, span)
    except BlobMissingError:
        # it had to make room for another one this very moment: it can be made again
        raise PartNotReadyError from None
    return StreamingResponse(
        pieces,
        status_code=status,
        media_type=made.media_type,
        headers=headers | said,
    )
