"""Items on their way into an image set: read from JSON or multipart, stored, and added once for every key."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session
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
from api.deps import Services
from api.errors import UnsupportedMediaTypeError
from api.once import in_turn, key_of
from api.schemas import image_sets as schema
from api.schemas.ids import parse_image_id
from api.schemas.image_sets import AddedItems, NamedSetItem, NewSetItems, SentSetItem, SentSetItems
from api.spool import Hold
from api.uploads import Elsewhere, Refused, Upload, hash_pictures, store_readable
from api.writing import writing
from jobs import adding, idempotency, image_sets, images
from jobs.adding import NewItem
from jobs.copying import COPIED_AT_ONCE, copies_left, copy_some
from jobs.errors import (
    IdempotencyKeySpentError,
    InvalidRequestError,
    NoInputError,
    NotFoundError,
    TooManyInputsError,
)
from jobs.idempotency import Once, fingerprint_of
from jobs.images import Content, Kept
from models.types import Made


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
            tuple(self.said.true_labels or ()),
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


async def once_of_items(request: Request, incoming: Sequence[Incoming], limit_bytes: int) -> Once | None:
    """The client's key with the fingerprint of the items, pictures by their content; None without a key.

    Raises:
        InvalidIdempotencyKeyError: it sent several, or one that is none.
    """
    key = key_of(request)
    if key is None:
        return None
    hashed = await hash_pictures([each.upload for each in incoming], limit_bytes)
    asked = [
        [
            item.source.sha256 if isinstance(item.source, Content) else str(item.source),
            each.custom_id,
            each.said.true_label,
            each.said.split,
            # as it was before there were any, so that keys of then are known
            *([each.said.true_labels] if each.said.true_labels else []),
        ]
        for item, each in zip(hashed, incoming, strict=True)
    ]
    return Once(key, fingerprint_of(request.url.path, asked), Made.SET_ITEMS)


async def add_to_set(
    services: Services,
    tenant: str,
    set_id: uuid.UUID,
    incoming: Sequence[Incoming],
    once: Once | None,
    hold: Hold,
) -> tuple[AddedItems, bool]:
    """Store the pictures, then add the items; or find what was added with the key: and whether it is new.

    The body is let go of once it is stored: what then waits for its turn holds none of it.

    Raises:
        DomainError: as `jobs.adding.add_items`, before anything is stored; or the key is no good.
    """
    settings = services.settings
    custom_ids = [each.custom_id for each in incoming]
    sources = [each.upload.source for each in incoming]
    image_ids = [source if isinstance(source, uuid.UUID) else None for source in sources]

    def check(session: Session) -> AddedItems | None:
        try:
            adding.check_addable(session, tenant, set_id, custom_ids, image_ids, settings.max_set_items)
        except InvalidRequestError:
            # in this order: its twin may have just added them
            if once is None or idempotency.find_made(session, tenant, once) is None:
                raise
            return _known(session, tenant, set_id, once)
        return None

    async with services.sessions() as reading:
        if known := await reading.run_sync(check):
            return known, False
    uploads = [each.upload for each in incoming]
    found = await store_readable(services.blobs, tenant, uploads, settings.max_image_bytes)
    hold.release()
    await _copy_ahead(services, tenant, set_id)

    def add(session: Session) -> AddedItems:
        kept = images.keep(session, tenant, [each for each in found if isinstance(each, Content)])
        items = _items_of(incoming, found, kept)
        done = adding.add_items(session, tenant, set_id, items, settings.max_set_items)
        shown = schema.added(done, sum(isinstance(each, Refused) for each in found))
        if once is not None:
            idempotency.note(session, tenant, once, shown.model_dump())
        return shown

    def add_once(session: Session) -> tuple[AddedItems, bool]:
        return idempotency.make_once(
            session,
            tenant,
            once,
            lambda _: add(session),
            lambda _: None if once is None else _known(session, tenant, set_id, once),
        )

    async def make() -> tuple[AddedItems, bool]:
        async with writing(services, services.slow, tenant) as session:
            return await session.run_sync(add_once)

    return await in_turn(make)


async def _copy_ahead(services: Services, tenant: str, set_id: uuid.UUID) -> None:
    """Have a large version's items copied to the next one, as `jobs.copying.copy_some` does it.

    In many transactions: others are not to wait for all of it. What a client does not wait for stays copied.
    """
    async with services.sessions() as reading:
        left = await reading.run_sync(lambda session: copies_left(session, set_id, begin=True))
    done = left <= COPIED_AT_ONCE
    while not done:
        async with writing(services, services.slow, tenant) as session:
            done = await session.run_sync(lambda held: copy_some(held, tenant, set_id, begin=True))


def _known(session: Session, tenant: str, set_id: uuid.UUID, once: Once) -> AddedItems:
    """What was added with a key.

    Raises:
        IdempotencyKeySpentError: the set was deleted.
    """
    told = session.scalar(idempotency.noted(tenant, once))
    if told is None or session.scalar(image_sets.set_of(tenant, set_id)) is None:
        raise IdempotencyKeySpentError
    return AddedItems(**told)


def _items_of(
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
