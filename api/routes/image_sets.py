"""Image sets: made, filled, sealed; what was sealed never changes."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api import bodies
from api.deps import Reader, ReadingDep, ServicesDep, Submitter
from api.once import IDEMPOTENCY_KEY, REPLAYED, in_turn, once_of
from api.schemas import image_sets as schema
from api.schemas.ids import parse_set_id
from api.schemas.pages import decode_token
from api.set_items import add_to_set, once_of_items, read_items
from api.spool import hold_of
from api.writing import writing
from jobs import image_sets, sealing
from jobs.errors import NotFoundError
from jobs.idempotency import make_once
from jobs.image_sets import numbered_version, set_of
from models.image_set import ImageSet
from models.types import Made

router = APIRouter(prefix="/v1/image-sets", tags=["image sets"])

MAX_PAGE = 200
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such image set."}}
FILES: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
SAID: dict[str, Any] = {"type": "array", "items": {"$ref": "#/components/schemas/SentSetItem"}}
ADDING: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/NewSetItems"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {"images": FILES, "items": SAID},
                },
                "encoding": {"items": {"contentType": "application/json"}},
            },
        },
    },
}

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The version's number in its set, from 1.")]


def _body(name: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


@router.post(
    "",
    status_code=201,
    summary="Make an image set",
    openapi_extra={"parameters": [IDEMPOTENCY_KEY], **_body("NewImageSet")},
)
async def create_image_set(
    request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.WholeImageSetView:
    """Make a set with its first version, which is empty and open: add items, then seal it."""
    wanted = await bodies.read_small(request, schema.NewImageSet)
    once = once_of(request, Made.IMAGE_SET, wanted)

    def make_or_find(session: Session) -> tuple[ImageSet, bool]:
        return make_once(
            session,
            caller.tenant,
            once,
            lambda made_id: image_sets.create_set(
                session, caller.tenant, **wanted.model_dump(), set_id=made_id
            ),
            lambda made_id: session.scalar(set_of(caller.tenant, made_id)),
        )

    async def make() -> tuple[schema.WholeImageSetView, bool]:
        async with writing(services, services.quick, caller.tenant) as session:
            row, new = await session.run_sync(make_or_find)
            return await _whole(session, row), new

    shown, new = await in_turn(make)
    response.headers["Location"] = f"/v1/image-sets/{shown.id}"
    if not new:
        response.headers.update(REPLAYED)
    return shown


@router.get("", summary="List image sets")
async def list_image_sets(
    caller: Reader, session: ReadingDep, limit: Limit = 50, page_token: str | None = None
) -> schema.ImageSetsPage:
    """Your sets, newest first, without those that were deleted."""
    before = decode_token(page_token)
    rows = (await session.scalars(image_sets.sets_page(caller.tenant, before=before, limit=limit))).all()
    last = await session.scalars(image_sets.last_versions([row.id for row in rows]))
    return schema.page(rows, {version.set_id: version for version in last}, limit)


@router.get("/{set_id}", summary="Look at an image set", responses=UNKNOWN)
async def read_image_set(set_id: str, caller: Reader, session: ReadingDep) -> schema.WholeImageSetView:
    """What is said of a set, and its versions with what is in them."""
    row = await session.scalar(set_of(caller.tenant, parse_set_id(set_id)))
    if row is None:
        raise NotFoundError
    return await _whole(session, row)


@router.patch(
    "/{set_id}", summary="Change an image set", openapi_extra=_body("ImageSetChanges"), responses=UNKNOWN
)
async def change_image_set(
    set_id: str, request: Request, caller: Submitter, services: ServicesDep
) -> schema.WholeImageSetView:
    """Change a set's name, source, licence or notes; no version and no item changes by it."""
    wanted = await bodies.read_small(request, schema.ImageSetChanges)
    known, changes = parse_set_id(set_id), wanted.changes()
    async with writing(services, services.slow, caller.tenant) as session:
        row = await session.run_sync(image_sets.change_set, caller.tenant, known, changes)
        return await _whole(session, row)


@router.delete("/{set_id}", status_code=204, summary="Delete an image set", responses=UNKNOWN)
async def delete_image_set(set_id: str, caller: Submitter, services: ServicesDep) -> None:
    """Forget a set with all its versions: unknown at once, its rows are removed soon after.

    Jobs over it stay, with their results. Its pictures stay too, and can be deleted once its rows are gone.
    """
    known = parse_set_id(set_id)
    async with writing(services, services.slow, caller.tenant) as session:
        await session.run_sync(image_sets.delete_set, caller.tenant, known)


@router.post(
    "/{set_id}/items",
    status_code=201,
    summary="Add items to an image set",
    openapi_extra=ADDING,
    responses={
        **UNKNOWN,
        422: {
            "description": "A custom_id is in the set already (`duplicate-custom-id`), an id names no image"
            " (`unknown-image`), or there would be too many items (`too-many-inputs` in the request,"
            " `too-many-items` in the set). Nothing was added."
        },
    },
)
async def add_set_items(
    set_id: str, request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.AddedItems:
    """Add pictures behind the last item of the open version, or of a new one where the last is sealed.

    As JSON by the ids of images, or as multipart with files, of which `items` may say more by position. A
    file that is no picture is an item too, with its error: it is refused with no other, and never left out.
    """
    known, settings = parse_set_id(set_id), services.settings
    incoming = await read_items(request, settings.max_request_set_items)
    once = await once_of_items(request, incoming, settings.max_image_bytes)
    shown, new = await add_to_set(services, caller.tenant, known, incoming, once, hold_of(request))
    response.headers["Location"] = f"/v1/image-set-versions/{shown.version_id}"
    if not new:
        response.headers.update(REPLAYED)
    return shown


@router.post(
    "/{set_id}/seal",
    summary="Seal an image set",
    responses={
        **UNKNOWN,
        409: {
            "description": "It holds no picture (`empty-set`), or something is still being added"
            " (`not-ended`)."
        },
    },
)
async def seal_image_set(set_id: str, caller: Submitter, services: ServicesDep) -> schema.ImageSetVersionView:
    """Seal the open version: from then on it is what it is, and its `manifest_sha256` says what that is.

    Where nothing was added since, the last version is answered. What is added later makes the next version.
    """
    known = parse_set_id(set_id)
    async with writing(services, services.slow, caller.tenant) as session:
        return schema.version(await session.run_sync(sealing.seal, caller.tenant, known))


@router.get(
    "/{set_id}/versions/{number}",
    summary="Look at a version by its number",
    responses={404: {"description": "There is no such image set, or no such version of it."}},
)
async def read_numbered_version(
    set_id: str, number: Number, caller: Reader, session: ReadingDep
) -> schema.ImageSetVersionView:
    """How many items a version has, and whether it is sealed."""
    row = await session.scalar(numbered_version(caller.tenant, parse_set_id(set_id), number))
    if row is None:
        raise NotFoundError
    return schema.version(row)


async def _whole(session: AsyncSession, row: ImageSet) -> schema.WholeImageSetView:
    versions = await session.scalars(image_sets.versions_of(row.id, schema.VERSIONS_SHOWN))
    return schema.whole(row, versions.all())
