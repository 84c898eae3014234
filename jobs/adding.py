"""Items added to the open version of an image set.

Whoever adds to a set holds the set's row, so that indexes are dense; the pictures are held as by a job that
names them, see `jobs.images`.
"""

import uuid
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from jobs import images
from jobs.copying import open_version
from jobs.errors import DuplicateCustomIdError, NotFoundError, TooManyItemsError, UnknownImageError
from jobs.image_sets import set_of, versions_of
from models.image import Image
from models.image_set import ImageSetItem, ImageSetVersion

POINTERS: Final = 100
"""Of items that are refused, so many are pointed at."""

INSERT: Final = text("""
    INSERT INTO image_set_items (
        version_id, index, custom_id, image_id, sha256, image_bytes, true_label, true_labels, split, error
    )
    SELECT :version_id, index, custom_id, image_id, sha256, image_bytes, true_label, true_labels, split, error
    FROM jsonb_to_recordset(CAST(:items AS jsonb)) AS item (
        index integer, custom_id text, image_id uuid, sha256 text, image_bytes integer, true_label text,
        true_labels text[], split text, error jsonb
    )
    ON CONFLICT (version_id, custom_id) DO NOTHING
    RETURNING index
""").bindparams(bindparam("version_id", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class NewItem:
    """What is to lie at the next place: a picture by the id of its image, or an error in its place."""

    image_id: uuid.UUID | None
    custom_id: str | None = None
    true_label: str | None = None
    split: str | None = None
    error: dict[str, Any] | None = None
    true_labels: tuple[str, ...] = ()
    """In the place of `true_label` where several may be true at once."""

    @property
    def is_labelled(self) -> bool:
        """Whether its truth is known."""
        return self.true_label is not None or bool(self.true_labels)


@dataclass(frozen=True, slots=True)
class Added:
    """The open version after items were added; `first` is the index of the first of them."""

    version: ImageSetVersion
    first: int
    items: int


def add_items(session: Session, tenant: str, set_id: uuid.UUID, items: Sequence[NewItem], most: int) -> Added:
    """Put items behind the last place of the open version; after a sealed one, of its copy.

    Raises:
        NotFoundError: the tenant has no such set.
        UnknownImageError: an id names no image of the tenant; it points at each.
        DuplicateCustomIdError: a custom_id is there already, or twice among the items; it points at each.
        TooManyItemsError: the version would have more than `most`.
    """
    version = open_version(session, tenant, set_id)
    _check_room(version, len(items), most)
    held = images.hold(session, tenant, (item.image_id for item in items if item.image_id is not None))
    _refuse_unknown([item.image_id for item in items], held)
    first = version.items
    told = [_told(index, item, held) for index, item in enumerate(items, start=first)]
    values = {"version_id": version.id, "items": orjson.dumps(told).decode()}
    stored = set(session.scalars(INSERT, values))
    _refuse_known({place: item.custom_id for place, item in enumerate(items) if first + place not in stored})
    version.items += len(items)
    version.failed += sum(item.error is not None for item in items)
    version.labelled += sum(item.is_labelled for item in items)
    version.image_bytes += sum(held[item.image_id].image_bytes for item in items if item.image_id)
    session.flush()
    return Added(version, first, len(items))


def check_addable(
    session: Session,
    tenant: str,
    set_id: uuid.UUID,
    custom_ids: Sequence[str | None],
    image_ids: Sequence[uuid.UUID | None],
    most: int,
) -> None:
    """Refuse early what `add_items` would refuse later: before pictures are stored, or a version copied.

    Raises:
        NotFoundError, UnknownImageError, DuplicateCustomIdError, TooManyItemsError: as there.
    """
    if session.scalar(set_of(tenant, set_id)) is None:
        raise NotFoundError
    last = session.scalars(versions_of(set_id, limit=1)).one()
    _check_room(last, len(custom_ids), most)
    named = [image_id for image_id in image_ids if image_id is not None]
    if named:
        _refuse_unknown(image_ids, images.known_ids(session, tenant, named))
    taken = set(known_items(session, last.id, (name for name in custom_ids if name is not None)))
    refused = {}
    for place, name in enumerate(custom_ids):
        if name in taken:
            refused[place] = name
        elif name is not None:
            taken.add(name)
    _refuse_known(refused)


def known_items(session: Session, version_id: uuid.UUID, names: Iterable[str]) -> dict[str, ImageSetItem]:
    """The items that a version has under these custom_ids, by them."""
    found = select(ImageSetItem).where(
        ImageSetItem.version_id == version_id, ImageSetItem.custom_id.in_(list(names))
    )
    return {item.custom_id: item for item in session.scalars(found) if item.custom_id is not None}


def _check_room(version: ImageSetVersion, more: int, most: int) -> None:
    if version.items + more > most:
        raise TooManyItemsError(
            f"The set has {version.items} items, these are {more}, and a set takes {most}."
        )


def _refuse_unknown(image_ids: Sequence[uuid.UUID | None], known: Container[uuid.UUID]) -> None:
    """Refuse items by their places, if there are any whose ids name no image of the tenant."""
    unknown = [
        f"/items/{place}/image_id"
        for place, image_id in enumerate(image_ids)
        if image_id is not None and image_id not in known
    ]
    if unknown:
        raise UnknownImageError(pointers=unknown[:POINTERS])


def _refuse_known(refused: Mapping[int, str | None]) -> None:
    """Refuse items by their places, if there are any whose custom_ids name others already."""
    if refused:
        raise DuplicateCustomIdError(
            f"The custom_id {next(iter(refused.values()))!r} is in the set already, or twice among these:"
            " each names one item.",
            pointers=[f"/items/{place}/custom_id" for place in list(refused)[:POINTERS]],
        )


def _told(index: int, item: NewItem, held: Mapping[uuid.UUID, Image]) -> dict[str, Any]:
    image = None if item.image_id is None else held[item.image_id]
    return {
        "index": index,
        "custom_id": item.custom_id,
        "image_id": item.image_id,
        "sha256": image and image.sha256,
        "image_bytes": image.image_bytes if image else 0,
        "true_label": item.true_label,
        "true_labels": item.true_labels or None,
        "split": item.split,
        "error": item.error,
    }
