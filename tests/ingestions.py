"""What tests of ingestions share: stored sources, and what became of them."""

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobs import image_sets
from jobs.blobs import BlobStore
from jobs.drafts import Draft
from jobs.ingesting import SourceForm
from jobs.sources import Stored, keep_draft
from models.image_set import ImageSetItem, ImageSetVersion
from models.job import Result
from tests.ledger import TENANT

Sessions = sessionmaker[Session]
Ingest = Callable[..., uuid.UUID]
"""Submits one source, with an archive beside it perhaps."""
ARCHIVE, MANIFEST = SourceForm.ARCHIVE, SourceForm.MANIFEST


def keep(blobs: BlobStore, data: bytes) -> Stored:
    """A source as an upload leaves it: written in two pieces."""
    draft = Draft(blobs)
    draft.begin()
    for piece in (data[:100], data[100:]):
        draft.write(piece)
    return keep_draft(blobs, TENANT, draft)


def items_of(sessions: Sessions, set_id: uuid.UUID) -> list[ImageSetItem]:
    """All items of a set's last version, which must be dense."""
    with sessions() as session:
        version = session.scalars(
            select(ImageSetVersion)
            .where(ImageSetVersion.set_id == set_id)
            .order_by(ImageSetVersion.number.desc())
            .limit(1)
        ).one()
        items = list(session.scalars(image_sets.items_page(version.id, after=-1, limit=100_000)))
        assert [item.index for item in items] == list(range(version.items))
        assert version.failed == sum(item.error is not None for item in items)
        return items


def result_of(sessions: Sessions, job_id: uuid.UUID) -> dict[str, Any]:
    """The payload or the error of a job's only item."""
    with sessions() as session:
        result = session.scalars(select(Result).where(Result.job_id == job_id)).one()
        found: dict[str, Any] = result.payload or result.error or {}
        return found


def codes_of(items: list[ImageSetItem]) -> dict[str | None, str | None]:
    return {item.custom_id: code_of(item) for item in items}


def code_of(item: ImageSetItem) -> str | None:
    return None if item.error is None else str(item.error["code"])
