"""Image sets: made, filled and found. What a version holds never changes once it is sealed.

Whoever adds to a set holds the set's row, so that indexes are dense; the pictures are held as by a job that
names them, see `jobs.images`.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Select, Uuid, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from jobs import images
from jobs.errors import DuplicateCustomIdError, NotFoundError, TooManyItemsError, UnknownImageError
from models.image import Image
from models.image_set import ImageSet, ImageSetItem, ImageSetVersion

POINTERS: Final = 100
"""Of items that are refused, so many are pointed at."""

COPY: Final = text("""
    INSERT INTO image_set_items (
        version_id, index, custom_id, image_id, sha256, image_bytes, true_label, split, error
    )
    SELECT :version_id, index, custom_id, image_id, sha256, image_bytes, true_label, split, error
    FROM image_set_items WHERE version_id = :former_id
""").bindparams(bindparam("version_id", type_=Uuid()), bindparam("former_id", type_=Uuid()))

INSERT: Final = text("""
    INSERT INTO image_set_items (
        version_id, index, custom_id, image_id, sha256, image_bytes, true_label, split, error
    )
    SELECT :version_id, index, custom_id, image_id, sha256, image_bytes, true_label, split, error
    FROM jsonb_to_recordset(CAST(:items AS jsonb)) AS item (
        index integer, custom_id text, image_id uuid, sha256 text, image_bytes integer, true_label text,
        split text, error jsonb
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


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different about a set; None stays as it is."""

    name: str | None = None
    source: str | None = None
    licence: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """The open version after items were added; `first` is the index of the first of them."""

    version: ImageSetVersion
    first: int
    items: int


def create_set(
    session: Session,
    tenant: str,
    name: str,
    source: str = "",
    licence: str = "",
    notes: str = "",
    *,
    set_id: uuid.UUID | None = None,
) -> ImageSet:
    """Make a set with its first version, which is open and empty."""
    made = ImageSet(id=set_id, tenant=tenant, name=name, source=source, licence=licence, notes=notes)
    session.add(made)
    session.flush()
    session.add(ImageSetVersion(set_id=made.id, number=1))
    session.flush()
    return made


def set_of(tenant: str, set_id: uuid.UUID) -> Select[ImageSet]:
    """A set, if it is the tenant's and not deleted."""
    return select(ImageSet).where(
        ImageSet.id == set_id, ImageSet.tenant == tenant, ImageSet.deleted_at.is_(None)
    )


def sets_page(tenant: str, *, before: uuid.UUID | None, limit: int) -> Select[ImageSet]:
    """A tenant's sets, newest first: one more than `limit`, to tell what follows."""
    page = select(ImageSet).where(ImageSet.tenant == tenant, ImageSet.deleted_at.is_(None))
    if before is not None:
        page = page.where(ImageSet.id < before)
    return page.order_by(ImageSet.id.desc()).limit(limit + 1)


def versions_of(set_id: uuid.UUID, limit: int) -> Select[ImageSetVersion]:
    """The newest versions of a set, the last one first."""
    return (
        select(ImageSetVersion)
        .where(ImageSetVersion.set_id == set_id)
        .order_by(ImageSetVersion.number.desc())
        .limit(limit)
    )


def last_versions(set_ids: Sequence[uuid.UUID]) -> Select[ImageSetVersion]:
    """The last version of each of some sets."""
    return (
        select(ImageSetVersion)
        .where(ImageSetVersion.set_id.in_(set_ids))
        .ext(distinct_on(ImageSetVersion.set_id))
        .order_by(ImageSetVersion.set_id, ImageSetVersion.number.desc())
    )


def numbered_version(tenant: str, set_id: uuid.UUID, number: int) -> Select[ImageSetVersion]:
    """A version by its number in its set, if that is the tenant's and not deleted."""
    return _alive_versions(tenant).where(ImageSetVersion.set_id == set_id, ImageSetVersion.number == number)


def version_of(tenant: str, version_id: uuid.UUID) -> Select[ImageSetVersion]:
    """A version, if it is of a set of the tenant's that is not deleted."""
    return _alive_versions(tenant).where(ImageSetVersion.id == version_id)


def items_page(
    version_id: uuid.UUID, *, after: int, limit: int, failed: bool = False
) -> Select[ImageSetItem]:
    """Items of a version by index behind `after` (-1 at first): one more than `limit`.

    With `failed`, only those that are no picture.
    """
    page = select(ImageSetItem).where(ImageSetItem.version_id == version_id, ImageSetItem.index > after)
    if failed:
        page = page.where(ImageSetItem.error.is_not(None))
    return page.order_by(ImageSetItem.index).limit(limit + 1)


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
    unknown = [
        f"/items/{place}/image_id"
        for place, item in enumerate(items)
        if item.image_id is not None and item.image_id not in held
    ]
    if unknown:
        raise UnknownImageError(pointers=unknown[:POINTERS])
    first = version.items
    told = [_told(index, item, held) for index, item in enumerate(items, start=first)]
    values = {"version_id": version.id, "items": orjson.dumps(told).decode()}
    stored = set(session.scalars(INSERT, values))
    _refuse_known({place: item.custom_id for place, item in enumerate(items) if first + place not in stored})
    version.items += len(items)
    version.failed += sum(item.error is not None for item in items)
    version.labelled += sum(item.true_label is not None for item in items)
    version.image_bytes += sum(held[item.image_id].image_bytes for item in items if item.image_id)
    session.flush()
    return Added(version, first, len(items))


def check_addable(
    session: Session, tenant: str, set_id: uuid.UUID, custom_ids: Sequence[str | None], most: int
) -> None:
    """Refuse early what `add_items` would refuse later: before pictures are stored that nothing names.

    Raises:
        NotFoundError, DuplicateCustomIdError, TooManyItemsError: as there.
    """
    if session.scalar(set_of(tenant, set_id)) is None:
        raise NotFoundError
    last = session.scalars(versions_of(set_id, limit=1)).one()
    _check_room(last, len(custom_ids), most)
    taken = known_custom_ids(session, last.id, (name for name in custom_ids if name is not None))
    refused = {}
    for place, name in enumerate(custom_ids):
        if name in taken:
            refused[place] = name
        elif name is not None:
            taken.add(name)
    _refuse_known(refused)


def open_version(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """The version of a set that can be added to, held with the set until the commit.

    Where the last one is sealed, its copy under the next number.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    if session.scalar(set_of(tenant, set_id).with_for_update()) is None:
        raise NotFoundError
    last = session.scalars(
        select(ImageSetVersion)
        .where(ImageSetVersion.set_id == set_id)
        .order_by(ImageSetVersion.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one()
    if last.sealed_at is None:
        return last
    version = ImageSetVersion(
        set_id=set_id,
        number=last.number + 1,
        items=last.items,
        failed=last.failed,
        labelled=last.labelled,
        image_bytes=last.image_bytes,
    )
    session.add(version)
    session.flush()
    session.execute(COPY, {"version_id": version.id, "former_id": last.id})
    return version


def change_set(session: Session, tenant: str, set_id: uuid.UUID, changes: Changes) -> ImageSet:
    """Change what is said of a set; its items stay as they are.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    found = session.scalar(set_of(tenant, set_id).with_for_update())
    if found is None:
        raise NotFoundError
    for name, value in asdict(changes).items():
        if value is not None:
            setattr(found, name, value)
    session.flush()
    return found


def delete_set(session: Session, tenant: str, set_id: uuid.UUID) -> None:
    """Delete a set with all its versions: unknown from the commit on; jobs over it stay.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    found = session.scalar(set_of(tenant, set_id).with_for_update())
    if found is None:
        raise NotFoundError
    session.execute(update(ImageSet).where(ImageSet.id == set_id).values(deleted_at=func.now()))


def known_custom_ids(session: Session, version_id: uuid.UUID, names: Iterable[str]) -> set[str]:
    """Which of these custom_ids a version has."""
    wanted = list(names)
    found = select(ImageSetItem.custom_id).where(
        ImageSetItem.version_id == version_id, ImageSetItem.custom_id.in_(wanted)
    )
    return {name for name in session.scalars(found) if name is not None}


def _check_room(version: ImageSetVersion, more: int, most: int) -> None:
    if version.items + more > most:
        raise TooManyItemsError(
            f"The set has {version.items} items, these are {more}, and a set takes {most}."
        )


def _refuse_known(refused: Mapping[int, str | None]) -> None:
    """Refuse items by their places, if there are any whose custom_ids name others already."""
    if refused:
        raise DuplicateCustomIdError(
            f"The custom_id {next(iter(refused.values()))!r} is in the set already, or twice among these:"
            " each names one item.",
            pointers=[f"/items/{place}/custom_id" for place in list(refused)[:POINTERS]],
        )


def _alive_versions(tenant: str) -> Select[ImageSetVersion]:
    return (
        select(ImageSetVersion)
        .join(ImageSet, ImageSet.id == ImageSetVersion.set_id)
        .where(ImageSet.tenant == tenant, ImageSet.deleted_at.is_(None))
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
        "split": item.split,
        "error": item.error,
    }
