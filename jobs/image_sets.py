"""Image sets and their versions: made, found, changed and deleted. Items come in by `jobs.adding`.

A version is there once it has an item more than the one before it. Until then it is a copy of that, or part
of one, which somebody may never go on with: nobody finds it, and the one before is the last.
"""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ARRAY, ColumnElement, Select, Uuid, cast, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased, defer

from jobs.errors import NotFoundError
from models.image_set import ImageSet, ImageSetItem, ImageSetVersion
from models.job import Job


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different about a set; None stays as it is."""

    name: str | None = None
    source: str | None = None
    licence: str | None = None
    notes: str | None = None


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


def set_of(tenant: str | None, set_id: uuid.UUID) -> Select[ImageSet]:
    """A set, if it is the tenant's, or of any (None), and not deleted."""
    found = select(ImageSet).where(ImageSet.id == set_id, ImageSet.deleted_at.is_(None))
    return found if tenant is None else found.where(ImageSet.tenant == tenant)


def sets_page(tenant: str | None, *, before: uuid.UUID | None, limit: int) -> Select[ImageSet]:
    """A tenant's sets, or those of all (None), newest first: one more than `limit`, to tell what follows."""
    page = select(ImageSet).where(ImageSet.deleted_at.is_(None))
    if tenant is not None:
        page = page.where(ImageSet.tenant == tenant)
    if before is not None:
        page = page.where(ImageSet.id < before)
    return page.order_by(ImageSet.id.desc()).limit(limit + 1)


def versions_of(set_id: uuid.UUID, limit: int) -> Select[ImageSetVersion]:
    """The newest versions of a set, the last one first."""
    return begun_versions(set_id, limit).where(_is_there())


def begun_versions(set_id: uuid.UUID, limit: int) -> Select[ImageSetVersion]:
    """The same, also one that is no more than a copy so far: for whoever adds to it, or may seal it."""
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
        .where(ImageSetVersion.set_id.in_(set_ids), _is_there())
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


def jobs_over(version_ids: Sequence[uuid.UUID], limit: int) -> Select[Job]:
    """The newest jobs over some versions, those that fill them too, without what may weigh much."""
    versions = select(func.unnest(cast(list(version_ids), ARRAY(Uuid))).label("id")).subquery("versions")
    # of each version its newest ones by the index: a list of versions would have all their jobs sorted
    newest = (
        select(Job.id)
        .where(Job.version_id == versions.c.id, Job.deleted_at.is_(None))
        .order_by(Job.id.desc())
        .limit(limit)
        .lateral("newest")
    )
    found = select(newest.c.id).select_from(versions).join(newest, true()).order_by(newest.c.id.desc())
    chosen = found.limit(limit).subquery("chosen")
    return (
        select(Job)
        .options(defer(Job.options, raiseload=True), defer(Job.provenance, raiseload=True))
        .join(chosen, chosen.c.id == Job.id)
        .order_by(chosen.c.id.desc())
    )


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


def _alive_versions(tenant: str) -> Select[ImageSetVersion]:
    return (
        select(ImageSetVersion)
        .join(ImageSet, ImageSet.id == ImageSetVersion.set_id)
        .where(ImageSet.tenant == tenant, ImageSet.deleted_at.is_(None), _is_there())
    )


def _is_there() -> ColumnElement[bool]:
    former = aliased(ImageSetVersion)
    copied = select(former.id).where(
        former.set_id == ImageSetVersion.set_id,
        former.number == ImageSetVersion.number - 1,
        former.items >= ImageSetVersion.items,
    )
    return or_(ImageSetVersion.sealed_at.is_not(None), ~copied.exists())
