"""Sealing an image set: from then on a version is one list of items, named by the hash of its manifest.

The manifest is a line of JSON for each item by index, with sorted keys, no spaces and a line feed at its
end: `custom_id`, `error` (its code), `index`, `sha256`, `split`, `true_label`, and `true_labels` where there
are several. Two versions of one hash have the same items in the same order.
"""

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs.errors import EmptySetError, NotEndedError, NotFoundError
from jobs.image_sets import set_of
from models.image_set import ImageSetItem, ImageSetVersion
from models.job import Job
from models.types import JobType

ROWS_AT_ONCE: Final = 2_000
"""Rendering more of them at a time would hold up the other requests of a process that seals."""


def seal(session: Session, tenant: str, set_id: uuid.UUID) -> ImageSetVersion:
    """Seal the open version of a set; of a set whose last version is sealed, that one.

    Raises:
        NotFoundError: the tenant has no such set.
        NotEndedError: something is still being added to it.
        EmptySetError: it holds no picture.
    """
    if session.scalar(set_of(tenant, set_id).with_for_update()) is None:
        raise NotFoundError
    version = session.scalars(
        select(ImageSetVersion)
        .where(ImageSetVersion.set_id == set_id)
        .order_by(ImageSetVersion.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one()
    if version.sealed_at is not None:
        return version
    adding = select(Job.id).where(
        Job.version_id == version.id, Job.type == JobType.INGEST, Job.ended_at.is_(None)
    )
    if session.scalar(adding.limit(1)) is not None:
        raise NotEndedError("Files are still being added to this set: seal it when those jobs are done.")
    if version.items == version.failed:
        raise EmptySetError
    sha256, now = hash_manifest(session, version.id), session.scalar(select(func.now()))
    version.manifest_sha256, version.sealed_at = sha256, now
    session.flush()
    return version


def hash_manifest(session: Session, version_id: uuid.UUID) -> str:
    """The SHA-256 of a version's manifest, in hex; its rows are read a part at a time."""
    hashed = hashlib.sha256()
    for line in manifest(session, version_id):
        hashed.update(line)
    return hashed.hexdigest()


def manifest(session: Session, version_id: uuid.UUID) -> Iterator[bytes]:
    """The lines of a version's manifest."""
    first = 0
    while lines := manifest_lines(session, version_id, first, ROWS_AT_ONCE):
        yield from lines
        first += len(lines)


def manifest_lines(session: Session, version_id: uuid.UUID, first: int, limit: int) -> list[bytes]:
    """Some lines of a version's manifest, from that of the index `first`; none behind the last item."""
    rows = session.execute(
        select(
            ImageSetItem.index,
            ImageSetItem.custom_id,
            ImageSetItem.sha256,
            ImageSetItem.true_label,
            ImageSetItem.split,
            ImageSetItem.error["code"].astext,
            ImageSetItem.true_labels,
        )
        .where(ImageSetItem.version_id == version_id, ImageSetItem.index >= first)
        .order_by(ImageSetItem.index)
        .limit(limit)
    )
    return [_line(*row) for row in rows]


def _line(
    index: int,
    custom_id: str | None,
    sha256: str | None,
    true_label: str | None,
    split: str | None,
    code: str | None,
    true_labels: list[str] | None,
) -> bytes:
    told: dict[str, Any] = {
        "custom_id": custom_id,
        "error": code,
        "index": index,
        "sha256": sha256,
        "split": split,
        "true_label": true_label,
    }
    if true_labels is not None:
        told["true_labels"] = true_labels
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
