"""Pictures of a tenant: kept by their content, named by jobs, deleted when no job names them.

Whoever is to name a picture in a job holds its row FOR KEY SHARE until the job is committed, and whoever
deletes one takes the row FOR UPDATE before looking for jobs: neither can slip past the other.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import BigInteger, Select, Text, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from jobs.blobs import BlobStore
from jobs.errors import ImageInUseError, NotFoundError
from models.image import Image

log = structlog.get_logger()

GRACE = timedelta(hours=1)
"""What was deleted is removed so much later: an upload of the same bytes that is under way finds them."""
REMOVED_AT_ONCE = 100

# MATERIALIZED: for a mere EXISTS the planner may scan the whole table in the hope of an early hit
IN_USE = text("""
    WITH naming AS MATERIALIZED (
        SELECT 1 FROM job_inputs WHERE image_ids @> ARRAY[:image_id]::uuid[]
    )
    SELECT EXISTS (SELECT 1 FROM naming)
        OR EXISTS (SELECT 1 FROM image_set_items WHERE image_id = :image_id)
""").bindparams(bindparam("image_id", type_=Image.id.type))
"""Whether a job or an image set that is kept names an image."""


# sorted by their hash: two submits that share pictures take the index entries in one order
_INSERT = select(Image).from_statement(
    text("""
        INSERT INTO images (tenant, sha256, image_bytes, media_type)
        SELECT :tenant, sha256, image_bytes, media_type
        FROM unnest(:hashes, :sizes, :types) AS new (sha256, image_bytes, media_type)
        ORDER BY sha256
        ON CONFLICT DO NOTHING
        RETURNING *
    """).bindparams(
        bindparam("hashes", type_=ARRAY(Text())),
        bindparam("sizes", type_=ARRAY(BigInteger())),
        bindparam("types", type_=ARRAY(Text())),
    )
)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that lie in the blob store; `media_type` is None when they look like no picture."""

    sha256: str
    image_bytes: int
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """An image's row, and whether it was unknown until now."""

    image: Image
    created: bool


def keep(session: Session, tenant: str, contents: Iterable[Content]) -> dict[str, Kept]:
    """The rows of stored bytes by their SHA-256, made where there are none, held until the commit.

    One that was deleted and not yet removed is revived.
    """
    wanted = {content.sha256: content for content in contents}
    kept = {
        image.sha256: Kept(image, created=True) for image in _insert(session, tenant, list(wanted.values()))
    }
    # those that were there; again: a row may be deleted, or removed, between being found and being held
    while missing := sorted(wanted.keys() - kept.keys()):
        held = session.scalars(_alive(tenant).where(Image.sha256.in_(missing)).order_by(Image.sha256))
        kept |= {image.sha256: Kept(image, created=False) for image in held}
        if dying := [sha256 for sha256 in missing if sha256 not in kept]:
            kept |= {image.sha256: Kept(image, created=True) for image in _revive(session, tenant, dying)}
            gone = [wanted[sha256] for sha256 in dying if sha256 not in kept]
            kept |= {image.sha256: Kept(image, created=True) for image in _insert(session, tenant, gone)}
    return kept


def hold(session: Session, tenant: str, image_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Image]:
    """The tenant's images of these ids, held until the commit; those that are not there are left out."""
    wanted = set(image_ids)
    if not wanted:
        return {}
    held = session.scalars(_alive(tenant).where(Image.id.in_(wanted)).order_by(Image.sha256))
    return {image.id: image for image in held}


def known_ids(session: Session, tenant: str, image_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these ids are of the tenant's images at the moment: nothing is held."""
    found = select(Image.id).where(
        Image.id.in_(set(image_ids)), Image.tenant == tenant, Image.dying_at.is_(None)
    )
    return set(session.scalars(found))


def image_of(tenant: str, image_id: uuid.UUID) -> Select[Image]:
    """An image, if it is the tenant's and was not deleted."""
    return select(Image).where(Image.id == image_id, Image.tenant == tenant, Image.dying_at.is_(None))


def delete_image(session: Session, tenant: str, image_id: uuid.UUID) -> None:
    """Delete an image: unknown from the commit on, its bytes removed by `remove_dying` after GRACE.

    Raises:
        NotFoundError: the tenant has no such image.
        ImageInUseError: a job that is kept names it.
    """
    image = session.scalar(image_of(tenant, image_id).with_for_update())
    if image is None:
        raise NotFoundError
    # a statement of its own, after the lock: it sees the jobs of whoever held the row until now
    if session.scalar(IN_USE, {"image_id": image_id}):
        raise ImageInUseError
    session.execute(update(Image).where(Image.id == image_id).values(dying_at=func.now()))


def remove_dying(session: Session, blobs: BlobStore) -> int:
    """Remove what was deleted GRACE ago: the file, then the row; returns how many images went.

    The row is held meanwhile: a submit that revives it waits, and then finds it gone and makes a new one.

    Raises:
        BlobStoreMissingError: there is something to remove, and the blob store is not there.
    """
    dying = (
        select(Image)
        .where(Image.dying_at < func.now() - GRACE)
        .order_by(Image.dying_at)
        .limit(REMOVED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    removed = 0
    found = session.scalars(dying).all()
    if found:
        # in a folder that is mounted over, every file would count as gone already
        blobs.check()
    for image in found:
        try:
            gone = blobs.remove(image.tenant, image.sha256, untouched=GRACE)
        except OSError as error:
            # one file that cannot go must not keep the others
            log.error("image.not_removed", image_id=str(image.id), error=str(error))  # noqa: TRY400 - it says all
            gone = False
        if gone:
            session.execute(delete(Image).where(Image.id == image.id))
            removed += 1
            log.info("image.removed", image_id=str(image.id))
        else:
            # its upload is under way or was given up: look again when that has been decided
            session.execute(update(Image).where(Image.id == image.id).values(dying_at=func.now()))
    return removed


def _insert(session: Session, tenant: str, contents: list[Content]) -> list[Image]:
    """The rows of those that were unknown; made by us, nobody else can hold them before the commit."""
    if not contents:
        return []
    told = {
        "tenant": tenant,
        "hashes": [content.sha256 for content in contents],
        "sizes": [content.image_bytes for content in contents],
        "types": [content.media_type for content in contents],
    }
    return list(session.scalars(_INSERT, told))


def _revive(session: Session, tenant: str, hashes: list[str]) -> list[Image]:
    dying = (
        select(Image.id)
        .where(Image.tenant == tenant, Image.sha256.in_(hashes), Image.dying_at.is_not(None))
        .order_by(Image.sha256)
        .with_for_update(key_share=True)
        .cte("dying")
    )
    revived = (
        update(Image)
        .where(Image.id == dying.c.id)
        .values(dying_at=None, created_at=func.now())
        .returning(Image)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return list(session.scalars(revived))


def _alive(tenant: str) -> Select[Image]:
    return (
        select(Image)
        .where(Image.tenant == tenant, Image.dying_at.is_(None))
        .with_for_update(read=True, key_share=True)
        .execution_options(populate_existing=True)
    )
