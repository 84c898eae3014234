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

COPIED_AT_ONCE: Final = 20_000
"""Items of a version that are copied to the next one: so much takes a second or less."""

COPY: Final = text("""
    WITH copied AS (
        INSERT INTO image_set_items (
            version_id, index, custom_id, image_id, sha256, image_bytes, true_label, true_labels, split, error
        )
        SELECT :version_id, index, custom_id, image_id, sha256, image_bytes, true_label, true_labels, split,
               error
        FROM image_set_items WHERE version_id = :former_id AND index >= :first AND index < :behind
        RETURNING image_bytes, true_label, true_labels, error
    )
    SELECT count(*) AS items, count(error) AS failed,
           count(*) FILTER (WHERE true_label IS NOT NULL OR true_labels IS NOT NULL) AS labelled,
           coalesce(sum(image_bytes), 0)::bigint AS image_bytes
    FROM copied
""").bindparams(bindparam("version_id", type_=Uuid()), bindparam("former_id", type_=Uuid()))

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
    version.labelled += sum(item.is_labelled for item in items)
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


def begin_version(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """The open version of a set, held with the set until the commit.

    Where the last one is sealed, the one of the next number: it begins as a copy of that, and has as much of
    it as was copied so far. It is added to when it has all of it, see `copy_some` and `open_version`.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    if session.scalar(set_of(tenant, set_id).with_for_update()) is None:
        raise NotFoundError
    last = session.scalars(versions_of(set_id, limit=1).execution_options(populate_existing=True)).one()
    if last.sealed_at is None:
        return last
    version = ImageSetVersion(set_id=set_id, number=last.number + 1)
    session.add(version)
    session.flush()
    return version


def open_version(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """The version of a set that can be added to, held with the set until the commit.

    Where the last one is sealed, its copy under the next number. Whoever may meet a large set has it copied
    in many transactions before, by `copy_some`: here, all that is left is copied in this one.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    version = begin_version(session, tenant, set_id)
    finish_copy(session, version)
    return version


def copies_left(session: Session, set_id: uuid.UUID, *, begin: bool) -> int:
    """How many items the open version of a set has still to be given of the one before it.

    With `begin`, those of the next version too, where the last one is sealed.
    """
    versions = session.scalars(versions_of(set_id, limit=2)).all()
    if not versions or (versions[0].sealed_at is not None and not begin):
        return 0
    if versions[0].sealed_at is not None:
        return versions[0].items
    return max(0, versions[1].items - versions[0].items) if len(versions) > 1 else 0


def copy_some(session: Session, tenant: str, set_id: uuid.UUID, *, begin: bool) -> bool:
    """Copy some of what the open version begins with; whether that was all. The caller commits, and goes on.

    With `begin`, the next version is begun where the last one is sealed.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    if not begin and not copies_left(session, set_id, begin=False):
        return True
    return _copy(session, begin_version(session, tenant, set_id))


def finish_copy(session: Session, version: ImageSetVersion) -> None:
    """Copy all that is left of what a version begins with; the caller holds its set."""
    while not _copy(session, version):
        pass


def _copy(session: Session, version: ImageSetVersion) -> bool:
    former = session.scalar(
        select(ImageSetVersion).where(
            ImageSetVersion.set_id == version.set_id, ImageSetVersion.number == version.number - 1
        )
    )
    # nothing but the copy comes before the last of the former
    if former is None or version.items >= former.items:
        return True
    first, behind = version.items, min(version.items + COPIED_AT_ONCE, former.items)
    part = {"version_id": version.id, "former_id": former.id, "first": first, "behind": behind}
    copied = session.execute(COPY, part).one()
    if copied.items < behind - first:
        raise NotFoundError("The set's rows are being removed.")
    version.items += copied.items
    version.failed += copied.failed
    version.labelled += copied.labelled
    version.image_bytes += copied.image_bytes
    session.flush()
    return version.items >= former.items


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
        "true_labels": item.true_labels or None,
        "split": item.split,
        "error": item.error,
    }
