"""Reading a submitted job from JSON or multipart, and storing its pictures."""

import asyncio
import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api.errors import BodyTooLargeError, MalformedBodyError, UnsupportedMediaTypeError
from api.schemas.jobs import JOB_REQUEST, EmbeddingRequest, LensRequest, sanitised
from jobs.blobs import BlobStore
from jobs.errors import InvalidRequestError, TooManyInputsError
from jobs.submit import ImageItem

MAX_JOB_PART_BYTES = 16 * 1024 * 1024
"""The `job` part of a multipart body: JSON, held in memory."""

BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

Upload = tuple[UploadFile | str, str | None]
"""A picture on its way in: a file part, or base64 text; and its custom_id."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a body is taken: JSON is held in memory, files of a multipart body go to disk."""

    items: int
    json_bytes: int


async def read_job(
    request: Request, limits: BodyLimits
) -> tuple[LensRequest | EmbeddingRequest, list[Upload]]:
    """The job and its pictures, from `application/json` or `multipart/form-data`.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, InvalidRequestError: the body is not such a job.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        # in a thread: parsing what pictures weigh in base64 would hold up every other request
        return await asyncio.to_thread(_parse_json, await _read(request, limits.json_bytes))
    if media_type == "multipart/form-data":
        return await _read_multipart(request, limits.items)
    raise UnsupportedMediaTypeError


async def store_images(blobs: BlobStore, tenant: str, uploads: Sequence[Upload]) -> list[ImageItem]:
    """Put every picture into the blob store, one after the other: memory holds one decoded at a time."""
    return [await _store(blobs, tenant, source, custom_id) for source, custom_id in uploads]


async def _read(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLargeError(
                f"A JSON body may have {limit_bytes} bytes: send the pictures as multipart/form-data."
            )
    return bytes(body)


def _parse_json(body: bytes) -> tuple[LensRequest | EmbeddingRequest, list[Upload]]:
    job = JOB_REQUEST.validate_python(_json(body))
    for index, image in enumerate(job.input.images):
        # all of them now: nothing is stored for a job that is refused
        if len(image.data) % 4 or not BASE64.fullmatch(image.data):
            raise InvalidRequestError(
                "`data` is not base64 (no data: prefix, no line breaks).",
                pointer=f"/input/images/{index}/data",
            )
    return job, [(image.data, image.custom_id) for image in job.input.images]


async def _store(blobs: BlobStore, tenant: str, source: UploadFile | str, custom_id: str | None) -> ImageItem:
    if isinstance(source, UploadFile):
        data = await source.read()
        await source.close()
        sha256 = await asyncio.to_thread(blobs.put, tenant, data)
        return ImageItem(sha256=sha256, image_bytes=len(data), custom_id=custom_id)
    return await asyncio.to_thread(_decode_and_put, blobs, tenant, source, custom_id)


def _decode_and_put(blobs: BlobStore, tenant: str, encoded: str, custom_id: str | None) -> ImageItem:
    data = base64.b64decode(encoded)
    return ImageItem(sha256=blobs.put(tenant, data), image_bytes=len(data), custom_id=custom_id)


async def _read_multipart(
    request: Request, max_items: int
) -> tuple[LensRequest | EmbeddingRequest, list[Upload]]:
    try:
        form = await request.form(max_files=max_items + 1, max_fields=8, max_part_size=MAX_JOB_PART_BYTES)
    except (UnicodeError, LookupError):
        raise MalformedBodyError("The body's charset cannot be read; send UTF-8.") from None
    except HTTPException as error:
        # what Starlette makes of a body that it cannot parse, or that holds more files than it may
        if "Too many files" in error.detail:
            raise TooManyInputsError(
                f"More than {max_items} images: send several jobs.", pointer="/input"
            ) from None
        raise MalformedBodyError(f"The multipart body cannot be read: {error.detail}") from None
    job = JOB_REQUEST.validate_python(_json(await _job_part(form)))
    if job.input.images:
        raise InvalidRequestError(
            "In a multipart body the pictures are the parts `images`.", pointer="/input/images"
        )
    if job.input.texts and "images" in form:
        raise InvalidRequestError("Give images or texts, not both.", pointer="/input")
    if unknown := set(form) - {"job", "images"}:
        raise InvalidRequestError(f"Unknown parts: {', '.join(sorted(unknown))}; send `job` and `images`.")
    uploads: list[Upload] = []
    for index, part in enumerate(form.getlist("images")):
        if not isinstance(part, UploadFile):
            raise InvalidRequestError(
                "An `images` part is a file: with curl, -F images=@picture.jpg.", pointer=f"/images/{index}"
            )
        uploads.append((part, sanitised(part.filename)))
    return job, uploads


async def _job_part(form: FormData) -> bytes:
    parts = form.getlist("job")
    if len(parts) != 1:
        raise InvalidRequestError("A multipart body needs exactly one part `job` that holds the job as JSON.")
    part = parts[0]
    if isinstance(part, UploadFile):
        return await part.read(MAX_JOB_PART_BYTES)
    try:
        return part.encode()
    except UnicodeError:
        raise MalformedBodyError("The part `job` is not text; send it as UTF-8.") from None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"The body is not valid JSON: {error}.") from None
