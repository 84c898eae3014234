"""Reading what was sent: a job as JSON or multipart, pictures as they are or as multipart."""

import asyncio
import re
import uuid
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api.errors import BodyTooLargeError, MalformedBodyError, UnsupportedMediaTypeError
from api.schemas.ids import parse_image_id
from api.schemas.submissions import (
    JOB_REQUEST,
    MAX_CUSTOM_ID,
    AnyRequest,
    EmbeddingRequest,
    ImageInput,
    LensRequest,
    RescoreRequest,
    sanitised,
)
from api.schemas.wire import Wire
from api.settings import ApiSettings
from api.uploads import Upload, open_spool
from jobs.errors import (
    InvalidRequestError,
    NoInputError,
    NotFoundError,
    TooManyInputsError,
    TooManyLabelsError,
    UrlsNotAllowedError,
)
from jobs.remote import Remote
from pictures.errors import ImageTooLargeError

MAX_JSON_PART_BYTES = 16 * 1024 * 1024
"""A part of a multipart body that is JSON, held in memory: the `job`, for one."""

MAX_SMALL_BYTES = 64 * 1024
"""Of a body that holds some settings and no content."""

MAX_NAMES = 200
"""Of the names of unknown parts, so many characters come back."""
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

NOBODYS = uuid.UUID(int=0)
"""The id of no image: stands for every text that is no id at all, and is refused with the unknown ones."""


Shape = TypeVar("Shape", bound=Wire)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a body is taken: JSON is held in memory, files of a multipart body go to disk."""

    items: int
    json_bytes: int
    image_bytes: int
    labels: int = 0
    """Of a job; an upload of pictures has none."""
    urls: bool = False
    """Whether pictures may be named by a URL."""


def job_limits(settings: ApiSettings) -> BodyLimits:
    """Those of a job's body."""
    return BodyLimits(
        items=settings.max_job_items,
        labels=settings.max_job_labels,
        json_bytes=settings.max_json_bytes,
        image_bytes=settings.max_image_bytes,
        urls=settings.fetch_urls,
    )


async def read_job(request: Request, limits: BodyLimits) -> tuple[AnyRequest, list[Upload]]:
    """The job and its pictures, from `application/json` or `multipart/form-data`.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, InvalidRequestError: the body is not such a job.
    """
    media_type = media_type_of(request)
    if media_type == "application/json":
        return await _parse(await _read_job(request, limits.json_bytes), limits)
    if media_type == "multipart/form-data":
        return await _read_multipart(request, limits)
    raise UnsupportedMediaTypeError


async def read_small(request: Request, shape: type[Shape]) -> Shape:
    """A small JSON object. Read by the route: the framework itself would read it before it asks for the key.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, BodyTooLargeError: the body is no small JSON.
        ValidationError: it is no such object.
    """
    _refuse_unless_json(request)
    return shape.model_validate(from_json(await _read_small(request)))


async def read_optional(request: Request, shape: type[Shape]) -> Shape:
    """The same where every field has a default, which is meant where nothing is sent.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, BodyTooLargeError: there is a body, and no small JSON.
        ValidationError: it is no such object.
    """
    body = await _read_small(request)
    if not body:
        # whatever its type: some clients name one also of nothing
        return shape()
    _refuse_unless_json(request)
    return shape.model_validate(from_json(body))


async def read_images(request: Request, limits: BodyLimits) -> tuple[list[Upload], list[str]]:
    """Pictures and the pointer to each: one as the body itself, or many as `multipart/form-data`.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, InvalidRequestError: the body is no such upload.
        ImageTooLargeError: the body itself is a picture that is too large.
    """
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        form = await read_form(request, limits.items, "/images")
        if unknown := set(form) - {"images"}:
            raise InvalidRequestError(f"Unknown parts: {names(unknown)}; send parts `images`.")
        uploads = files_of(form)
        if not uploads:
            raise NoInputError("Send at least one picture as a part `images`.", pointer="/images")
        if len(uploads) > limits.items:
            raise _too_many(limits.items, "/images")
        return uploads, [f"/images/{index}" for index in range(len(uploads))]
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        # the pointer to the whole body
        return [Upload(await _spool(request, limits.image_bytes), None)], [""]
    raise UnsupportedMediaTypeError(
        "Send a picture as `image/*` or `application/octet-stream`, or many as `multipart/form-data`"
        " with parts `images`."
    )


def media_type_of(request: Request) -> str:
    """What the body says that it is, without parameters; empty where it says nothing."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _spool(request: Request, limit_bytes: int) -> UploadFile:
    spooled = open_spool()
    async for chunk in request.stream():
        await spooled.write(chunk)
        if (spooled.size or 0) > limit_bytes:
            raise ImageTooLargeError(f"It has more than {limit_bytes} bytes, the limit.")
    return spooled


async def _read_small(request: Request) -> bytes:
    return await read_whole(request, MAX_SMALL_BYTES, f"This body may have {MAX_SMALL_BYTES} bytes.")


def _refuse_unless_json(request: Request) -> None:
    if media_type_of(request) != "application/json":
        raise UnsupportedMediaTypeError("Send `application/json`.")


async def _read_job(request: Request, limit_bytes: int) -> bytes:
    advice = f"A JSON body may have {limit_bytes} bytes: send the pictures as multipart/form-data."
    return await read_whole(request, limit_bytes, advice)


async def read_whole(request: Request, limit_bytes: int, advice: str) -> bytes:
    """A body that is held in memory.

    Raises:
        BodyTooLargeError: it has more than `limit_bytes`; that says the `advice`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLargeError(advice)
    return bytes(body)


async def _parse(body: bytes, limits: BodyLimits) -> tuple[AnyRequest, list[Upload]]:
    if len(body) <= MAX_SMALL_BYTES:
        return _parse_json(body, limits)
    # in a thread: parsing what pictures weigh in base64 would hold up every other request
    return await asyncio.to_thread(_parse_json, body, limits)


def _parse_json(body: bytes, limits: BodyLimits) -> tuple[AnyRequest, list[Upload]]:
    raw = from_json(body)
    check_counts(raw, limits)
    job = JOB_REQUEST.validate_python(raw)
    if isinstance(job, RescoreRequest):
        return job, []
    # all of them now: nothing is stored for a job that is refused
    return job, [_upload(index, image, limits) for index, image in enumerate(job.input.images)]


def check_counts(raw: Any, limits: BodyLimits) -> None:
    """Refuse lists that are too long before their elements are looked at: each wrong one takes a kilobyte."""
    if not isinstance(raw, dict):
        return
    given = raw.get("input")
    for name in ("images", "texts"):
        many = given.get(name) if isinstance(given, dict) else None
        if isinstance(many, list) and len(many) > limits.items:
            raise TooManyInputsError(
                f"{len(many)} items; one inline job takes {limits.items} at most: send several jobs.",
                pointer="/input",
            )
    labels = raw.get("labels")
    if isinstance(labels, list) and len(labels) > limits.labels:
        raise TooManyLabelsError(
            f"{len(labels)} labels; one job takes {limits.labels} at most: split them over several jobs.",
            pointer="/labels",
        )


def _upload(index: int, image: ImageInput, limits: BodyLimits) -> Upload:
    if image.url is not None:
        if not limits.urls:
            raise UrlsNotAllowedError(pointer=f"/input/images/{index}/url")
        return Upload(Remote(image.url), image.custom_id or image.url[:MAX_CUSTOM_ID])
    if image.image_id is not None:
        try:
            return Upload(parse_image_id(image.image_id), image.custom_id)
        except NotFoundError:
            return Upload(NOBODYS, image.custom_id)
    data = image.data or ""
    if len(data) % 4 or not BASE64.fullmatch(data):
        raise InvalidRequestError(
            "`data` is not base64 (no data: prefix, no line breaks).", pointer=f"/input/images/{index}/data"
        )
    return Upload(data, image.custom_id)


async def _read_multipart(request: Request, limits: BodyLimits) -> tuple[AnyRequest, list[Upload]]:
    form = await read_form(request, limits.items, "/input")
    job, named = await _parse(await _job_part(form), limits)
    if named and "images" in form:
        raise InvalidRequestError(
            "Give the pictures as parts `images` or in `input.images`, not both: which come first?",
            pointer="/input/images",
        )
    if isinstance(job, RescoreRequest) and "images" in form:
        raise InvalidRequestError("A rescore reads no images: send it without.", pointer="/images")
    if not isinstance(job, RescoreRequest) and "images" in form and _has_input(job):
        raise InvalidRequestError("Give images, texts or an image set, one of them.", pointer="/input")
    if unknown := set(form) - {"job", "images"}:
        raise InvalidRequestError(f"Unknown parts: {names(unknown)}; send `job` and `images`.")
    return job, named or files_of(form)


async def read_form(request: Request, max_files: int, pointer: str) -> FormData:
    """A multipart body with one file more than it may have, its files spooled.

    Raises:
        MalformedBodyError, TooManyInputsError: it cannot be parsed, or has more files than that.
    """
    try:
        return await request.form(max_files=max_files + 1, max_fields=8, max_part_size=MAX_JSON_PART_BYTES)
    except (UnicodeError, LookupError):
        raise MalformedBodyError("The body's charset cannot be read; send UTF-8.") from None
    except HTTPException as error:
        # what Starlette makes of a body that it cannot parse, or that holds more files than it may
        if "Too many files" in error.detail:
            raise _too_many(max_files, pointer) from None
        raise MalformedBodyError(f"The multipart body cannot be read: {error.detail}") from None


def _has_input(job: LensRequest | EmbeddingRequest) -> bool:
    return bool(job.input.texts) or job.input.image_set_version is not None


def _too_many(most: int, pointer: str) -> TooManyInputsError:
    return TooManyInputsError(f"More than {most} images: send several requests.", pointer=pointer)


def names(parts: set[str]) -> str:
    """Names of parts for a message, cut where they are too many."""
    return ", ".join(sorted(parts))[:MAX_NAMES]


def files_of(form: FormData) -> list[Upload]:
    """The pictures that were sent as parts `images`, with the names of their files.

    Raises:
        InvalidRequestError: one of them is no file.
    """
    uploads: list[Upload] = []
    for index, part in enumerate(form.getlist("images")):
        if not isinstance(part, UploadFile):
            raise InvalidRequestError(
                "An `images` part is a file: with curl, -F images=@picture.jpg.", pointer=f"/images/{index}"
            )
        uploads.append(Upload(part, sanitised(part.filename)))
    return uploads


async def _job_part(form: FormData) -> bytes:
    body = await json_part(form, "job")
    if body is None:
        raise InvalidRequestError("A multipart body needs exactly one part `job` that holds the job as JSON.")
    return body


async def json_part(form: FormData, name: str) -> bytes | None:
    """The one part of this name, as it was sent; None where there are none or several.

    Raises:
        BodyTooLargeError, MalformedBodyError: it is too large to be held in memory, or no text.
    """
    parts = form.getlist(name)
    if len(parts) != 1:
        return None
    part = parts[0]
    if isinstance(part, UploadFile):
        if (part.size or 0) > MAX_JSON_PART_BYTES:
            raise BodyTooLargeError(
                f"The part `{name}` may have {MAX_JSON_PART_BYTES} bytes: send pictures as parts `images`."
            )
        return await part.read()
    try:
        return part.encode()
    except UnicodeError:
        raise MalformedBodyError(f"The part `{name}` is not text; send it as UTF-8.") from None


def from_json(body: bytes) -> Any:
    """What a body says.

    Raises:
        MalformedBodyError: it is no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"The body is not valid JSON: {error}.") from None
