"""The next version of an image set: a copy of the sealed one first, made in many transactions."""

import uuid
from typing import Final

from sqlalchemy import Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from jobs.errors import NotFoundError
from jobs.image_sets import begun_versions, set_of
from models.image_set import ImageSetVersion

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


def begin_version(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """The open version of a set, held with the set until the commit.

    Where the last one is sealed, the one of the next number: it begins as a copy of that, and has as much of
    it as was copied so far. It is added to when it has all of it, see `copy_some` and `open_version`.

    Raises:
        NotFoundError: the tenant has no such set.
    """
    if session.scalar(set_of(tenant, set_id).with_for_update()) is None:
        raise NotFoundError
    last = session.scalars(begun_versions(set_id, limit=1).execution_options(populate_existing=True)).one()
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
    versions = session.scalars(begun_versions(set_id, limit=2)).all()
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
