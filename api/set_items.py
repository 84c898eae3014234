"""Items on their way into an image set: as JSON that names images, or as files of a multipart body."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData

from api.bodies import (
    MAX_JSON_PART_BYTES,
    MAX_SMALL_BYTES,
    NOBODYS,
    files_of,
    from_json,
    json_part,
    media_type_of,
    names,
    read_form,
    read_whole,
)
from api.errors import UnsupportedMediaTypeError
from api.schemas.ids import parse_image_id
from api.schemas.image_sets import NamedSetItem, NewSetItems, SentSetItem, SentSetItems
from api.uploads import Elsewhere, Refused, Upload
from jobs.errors import InvalidRequestError, NoInputError, NotFoundError, TooManyInputsError
from jobs.image_sets import NewItem
from jobs.images import Content, Kept


@dataclass(frozen=True, slots=True)
class Incoming:
    """A picture, by the id of its image or as a file, and what is said of it."""

    upload: Upload
    said: SentSetItem

    @property
    def custom_id(self) -> str | None:
        """What was given, or else the file's name."""
        return self.upload.name if self.said.custom_id is None else self.said.custom_id

    def item(self, image_id: uuid.UUID | None, error: Mapping[str, Any] | None = None) -> NewItem:
        """The item of a picture that is an image now, or of one that cannot be."""
        return NewItem(
            image_id,
            self.custom_id,
            self.said.true_label,
            self.said.split,
            None if error is None else dict(error),
        )


async def read_items(request: Request, most: int) -> list[Incoming]:
    """The items of a request, `most` of them at most.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError, InvalidRequestError: the body is none of items.
    """
    media_type = media_type_of(request)
    if media_type == "application/json":
        advice = f"A body of items may have {MAX_JSON_PART_BYTES} bytes: send several requests."
        return await _parsed(await read_whole(request, MAX_JSON_PART_BYTES, advice), most)
    if media_type == "multipart/form-data":
        return await _read_files(request, most)
    raise UnsupportedMediaTypeError(
        "Send `application/json`, or `multipart/form-data` with parts `images` and perhaps a part `items`."
    )


def items_of(
    incoming: Sequence[Incoming], found: Sequence[Content | Elsewhere | Refused], kept: Mapping[str, Kept]
) -> list[NewItem]:
    """The items of what was `found` of each picture, the stored ones `kept` by their SHA-256."""
    made = []
    for each, source in zip(incoming, found, strict=True):
        if isinstance(source, Refused):
            made.append(each.item(None, source.error()))
        elif isinstance(source, Content):
            made.append(each.item(kept[source.sha256].image.id))
        else:
            assert isinstance(source, uuid.UUID)  # no item names a URL
            made.append(each.item(source))
    return made


async def _parsed(body: bytes, most: int) -> list[Incoming]:
    if len(body) <= MAX_SMALL_BYTES:
        return _parse(body, most)
    # in a thread: it would hold up every other request
    return await asyncio.to_thread(_parse, body, most)


def _parse(body: bytes, most: int) -> list[Incoming]:
    raw = from_json(body)
    _check_count(raw.get("items") if isinstance(raw, dict) else None, most)
    return [Incoming(Upload(_image_id(each), None), each) for each in NewSetItems.model_validate(raw).items]


def _image_id(item: NamedSetItem) -> uuid.UUID:
    try:
        return parse_image_id(item.image_id)
    except NotFoundError:
        return NOBODYS


async def _read_files(request: Request, most: int) -> list[Incoming]:
    form = await read_form(request, most, "/images")
    if unknown := set(form) - {"images", "items"}:
        raise InvalidRequestError(f"Unknown parts: {names(unknown)}; send `images` and perhaps `items`.")
    uploads = files_of(form)
    if not uploads:
        raise NoInputError("Send at least one picture as a part `images`.", pointer="/images")
    _check_count(uploads, most)
    said = await _said(form, most) or [SentSetItem()] * len(uploads)
    if len(said) != len(uploads):
        raise InvalidRequestError(
            f"`items` tells of {len(said)} pictures, and {len(uploads)} were sent: give one for each.",
            pointer="/items",
        )
    return [Incoming(upload, each) for upload, each in zip(uploads, said, strict=True)]


async def _said(form: FormData, most: int) -> list[SentSetItem]:
    if "items" not in form:
        return []
    body = await json_part(form, "items")
    if body is None:
        raise InvalidRequestError("Send one part `items` at most.", pointer="/items")
    return await asyncio.to_thread(_parse_said, body, most)


def _parse_said(body: bytes, most: int) -> list[SentSetItem]:
    raw = from_json(body)
    _check_count(raw, most)
    # in an object, so that faults are pointed at in the part of this name
    return SentSetItems.model_validate({"items": raw}).items


def _check_count(raw: Any, most: int) -> None:
    """Refuse a list that is too long before its elements are looked at: each wrong one takes a kilobyte."""
    if isinstance(raw, list) and len(raw) > most:
        raise TooManyInputsError(
            f"{len(raw)} items; one request takes {most} at most: send several requests.", pointer="/items"
        )
