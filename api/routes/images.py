"""Images: send pictures once, name them in many jobs."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.status import HTTP_200_OK

from api import bodies
from api.deps import Reader, ReadingDep, ServicesDep, Submitter
from api.schemas import images as schema
from api.schemas.ids import parse_image_id
from api.settings import ApiSettings
from api.uploads import check_pictures, store_pictures
from api.writing import writing
from jobs import images
from jobs.errors import NotFoundError
from jobs.images import Content

router = APIRouter(prefix="/v1/images", tags=["images"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Send pictures",
    openapi_extra=UPLOAD,
    responses={200: {"model": schema.UploadedImages, "description": "All of them were there already."}},
)
async def create_images(
    request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.UploadedImages:
    """Keep one picture, or many at once, to be named in jobs by id.

    With one that cannot be read, nothing of the request is kept. Idempotent by nature, so that it needs no
    Idempotency-Key: the same bytes have the same id.
    """
    settings = services.settings
    uploads, pointers = await bodies.read_images(request, _body_limits(settings))
    await check_pictures(uploads, settings.max_image_bytes, pointers)
    items = await store_pictures(services.blobs, caller.tenant, uploads, settings.max_image_bytes)
    stored = [item.source for item in items if isinstance(item.source, Content)]
    async with writing(services, services.quick, caller.tenant) as session:
        kept = await session.run_sync(images.keep, caller.tenant, stored)
    seen: set[str] = set()
    shown = []
    for content, upload in zip(stored, uploads, strict=True):
        first = content.sha256 not in seen
        seen.add(content.sha256)
        shown.append(schema.uploaded(kept[content.sha256], upload.name, first=first))
    if not any(image.created for image in shown):
        response.status_code = HTTP_200_OK
    return schema.UploadedImages(items=shown)


@router.get("/{image_id}", summary="Look at an image")
async def read_image(image_id: str, caller: Reader, session: ReadingDep) -> schema.ImageView:
    """What is known of an image; its bytes are not handed out."""
    image = await session.scalar(images.image_of(caller.tenant, parse_image_id(image_id)))
    if image is None:
        raise NotFoundError
    return schema.view(image)


@router.delete(
    "/{image_id}",
    status_code=204,
    summary="Delete an image",
    responses={409: {"description": "A job or an image set that is kept names it (`image-in-use`)."}},
)
async def delete_image(image_id: str, caller: Submitter, services: ServicesDep) -> None:
    """Forget an image that no job and no set names: unknown at once, its bytes are removed an hour later."""
    wanted = parse_image_id(image_id)
    async with writing(services, services.ending, caller.tenant) as session:
        await session.run_sync(images.delete_image, caller.tenant, wanted)


def _body_limits(settings: ApiSettings) -> bodies.BodyLimits:
    return bodies.BodyLimits(
        items=settings.max_upload_images,
        json_bytes=settings.max_json_bytes,
        image_bytes=settings.max_image_bytes,
    )
