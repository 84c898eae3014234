"""Versions of image sets: how much is in one, its items, and the manifest that names it."""

import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.conditional import REVALIDATED, IfNoneMatch, matches
from api.deps import Reader, ReadingDep, Services, ServicesDep
from api.schemas import image_sets as schema
from api.schemas.ids import parse_version_id
from api.schemas.results import decode_token
from jobs.errors import NotFoundError, NotSealedError
from jobs.image_sets import items_page, version_of
from jobs.sealing import manifest_lines
from models.image_set import ImageSetVersion

router = APIRouter(prefix="/v1/image-set-versions/{version_id}", tags=["image sets"])

MAX_PAGE = 1_000
LINES_AT_ONCE = 1_000
"""Of a manifest, so many are rendered before others have their turn."""
MANIFEST = "application/x-ndjson"
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such version."}}


@router.get("", summary="Look at a version", responses=UNKNOWN)
async def read_set_version(
    version_id: str, caller: Reader, session: ReadingDep
) -> schema.ImageSetVersionView:
    """How many items a version has, and whether it is sealed."""
    return schema.version(await _find(session, caller.tenant, version_id))


@router.get("/items", summary="List a version's items", responses=UNKNOWN)
async def list_set_items(
    version_id: str,
    caller: Reader,
    session: ReadingDep,
    state: Annotated[
        Literal["failed"] | None, Query(description="`failed`: only items that are no picture.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    page_token: str | None = None,
) -> schema.SetItemsPage:
    """Items by index, of a sealed version or of one that is still filled."""
    after = decode_token(page_token)
    version = await _find(session, caller.tenant, version_id)
    rows = await session.scalars(items_page(version.id, after=after, limit=limit, failed=state is not None))
    return schema.items(rows.all(), limit)


@router.get(
    "/manifest",
    summary="Fetch a version's manifest",
    response_class=StreamingResponse,
    responses={
        **UNKNOWN,
        200: {
            "content": {MANIFEST: {"schema": {"type": "string", "format": "binary"}}},
            "description": "A line of JSON for each item, by index.",
        },
        304: {"description": "The client has it already."},
        409: {"description": "The version is still open (`not-sealed`)."},
    },
)
async def fetch_manifest(
    version_id: str, caller: Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """What a sealed version holds, as the bytes whose SHA-256 is its `manifest_sha256`.

    Each line has, in this order and without spaces: `custom_id`, `error` (its code), `index`, `sha256`,
    `split`, `true_label`.
    """
    async with services.sessions() as session:
        version = await _find(session, caller.tenant, version_id)
    if version.manifest_sha256 is None:
        raise NotSealedError
    headers = {"ETag": f'"{version.manifest_sha256}"', "Cache-Control": REVALIDATED}
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    lines = _lines(services, version.id, version.items)
    return StreamingResponse(lines, media_type=MANIFEST, headers=headers)


async def _lines(services: Services, version_id: uuid.UUID, items: int) -> AsyncIterator[bytes]:
    """The manifest, some lines at a time: no connection is held while a client reads."""
    for first in range(0, items, LINES_AT_ONCE):
        behind = min(first + LINES_AT_ONCE, items)
        async with services.sessions() as session:
            lines = await session.run_sync(manifest_lines, version_id, first, behind)
        if lines.count(b"\n") < behind - first:
            # the set was deleted meanwhile: the connection breaks, and nobody takes this for all of it
            raise NotFoundError
        yield lines


async def _find(session: AsyncSession, tenant: str, wire_id: str) -> ImageSetVersion:
    row = await session.scalar(version_of(tenant, parse_version_id(wire_id)))
    if row is None:
        raise NotFoundError
    return row
