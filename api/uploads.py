"""Pictures on their way in: read again from where they were spooled, one at a time, and stored."""

import asyncio
import base64
import hashlib
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from starlette.datastructures import UploadFile

from api.errors import RefusedImagesError
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.remote import Remote, Unfetched
from jobs.submission import ImageItem
from pictures.errors import ImageTooLargeError, PictureError
from pictures.sniff import sniff
from pictures.upload import inspect

SPOOLED_IN_MEMORY_BYTES: Final = 1024 * 1024

Elsewhere = uuid.UUID | Remote | Unfetched
"""Of these a request has no bytes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture of a request: a file, base64 text, an image's id or a URL; and the name it came with."""

    source: UploadFile | str | uuid.UUID | Remote | Unfetched
    name: str | None

    @property
    def image_bytes(self) -> int:
        """What it weighs as a file; 0 for the id of an image, which was weighed when it came, or a URL."""
        if isinstance(self.source, UploadFile):
            return self.source.size or 0
        if isinstance(self.source, str):
            return len(self.source) // 4 * 3 - self.source[-2:].count("=")
        return 0

    def pending(self) -> ImageItem:
        """The item before its bytes are stored."""
        return ImageItem(self.source if isinstance(self.source, Elsewhere) else Content("", 0), self.name)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a picture cannot be taken."""

    code: str
    message: str

    def error(self) -> dict[str, Any]:
        """The same as an item's error: the bytes are at fault, and will be."""
        return {"code": self.code, "message": self.message, "retryable": False}


def open_spool() -> UploadFile:
    """A file for a picture that is still coming in: large ones go to disk; whoever stores it closes it."""
    file = tempfile.SpooledTemporaryFile(SPOOLED_IN_MEMORY_BYTES)  # noqa: SIM115 - see above
    return UploadFile(cast("BinaryIO", file), size=0)


async def hash_pictures(uploads: Sequence[Upload], limit_bytes: int) -> list[ImageItem]:
    """The items of a job by their content, as `store_pictures` would keep it; nothing is stored."""
    return [ImageItem(await _contained(upload, _hash, limit_bytes), upload.name) for upload in uploads]


async def store_pictures(
    blobs: BlobStore, tenant: str, uploads: Sequence[Upload], limit_bytes: int
) -> list[ImageItem]:
    """Put every picture into the blob store, one after the other: memory holds one decoded at a time.

    Of one that is larger than `limit_bytes`, little more than that is kept: a worker fails it as too large.
    """

    def put(data: bytes) -> Content:
        return Content(blobs.put(tenant, data), len(data), sniff(data))

    items = []
    for upload in uploads:
        items.append(ImageItem(await _contained(upload, put, limit_bytes), upload.name))
        if isinstance(upload.source, UploadFile):
            await upload.source.close()
    return items


async def store_readable(
    blobs: BlobStore, tenant: str, uploads: Sequence[Upload], limit_bytes: int
) -> list[Content | Elsewhere | Refused]:
    """Put every picture that can be taken into the blob store, one after the other; of the others, why not.

    They are judged by their bytes, and none is decoded.
    """

    def put(data: bytes) -> Content:
        media_type = inspect(data, limit_bytes)
        return Content(blobs.put(tenant, data), len(data), media_type)

    found: list[Content | Elsewhere | Refused] = []
    for upload in uploads:
        try:
            _refuse_large(upload, limit_bytes)
            found.append(await _contained(upload, put, limit_bytes))
        except PictureError as error:
            found.append(Refused(error.code, str(error)))
        if isinstance(upload.source, UploadFile):
            await upload.source.close()
    return found


async def check_pictures(uploads: Sequence[Upload], limit_bytes: int, pointers: Sequence[str]) -> None:
    """Refuse an upload with any picture that cannot be taken, judged by its bytes and decoding none.

    Raises:
        RefusedImagesError: some cannot; it has the pointer of each.
    """
    faults: list[tuple[str, PictureError]] = []
    for upload, pointer in zip(uploads, pointers, strict=True):
        try:
            await _check(upload, limit_bytes)
        except PictureError as error:
            faults.append((pointer, error))
    if faults:
        raise RefusedImagesError(faults)


async def _check(upload: Upload, limit_bytes: int) -> None:
    _refuse_large(upload, limit_bytes)

    def judge(data: bytes) -> Content:
        return Content("", len(data), inspect(data, limit_bytes))

    await _contained(upload, judge, limit_bytes)


def _refuse_large(upload: Upload, limit_bytes: int) -> None:
    # by its size first: what is too large is not read into memory
    if isinstance(upload.source, UploadFile) and (upload.source.size or 0) > limit_bytes:
        raise ImageTooLargeError(f"It has {upload.source.size} bytes, the limit is {limit_bytes}.")


async def _contained(
    upload: Upload, use: Callable[[bytes], Content], limit_bytes: int
) -> Content | Elsewhere:
    """What `use` makes of a picture's first bytes, in a thread; of one without bytes, what stands for it."""
    source = upload.source
    if isinstance(source, Elsewhere):
        return source
    if isinstance(source, str):
        # four characters are three bytes
        return await asyncio.to_thread(_decode_and_use, source[: 4 * (limit_bytes // 3 + 1)], use)
    await source.seek(0)
    return await asyncio.to_thread(use, await source.read(limit_bytes + 1))


def _decode_and_use(encoded: str, use: Callable[[bytes], Content]) -> Content:
    return use(base64.b64decode(encoded))


def _hash(data: bytes) -> Content:
    return Content(hashlib.sha256(data).hexdigest(), len(data))
