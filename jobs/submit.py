"""Submitting a job: checked, then its rows in one transaction.

Blobs are stored before it, the workers are invited after it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from jobs.errors import (
    DuplicateLabelsError,
    InvalidRequestError,
    NoInputError,
    NoLabelsError,
    TooManyInputsError,
    TooManyLabelsError,
)
from models.image import Image
from models.job import Job, JobInput
from models.types import JobType
from models.work import Work

UNIT_ITEMS = 8
"""Items in a work unit: what a crash recomputes at most, and what one claim pays for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one inline job may be."""

    items: int = 1_000
    labels: int = 10_000


@dataclass(frozen=True, slots=True)
class ImageItem:
    """A picture whose bytes lie in the blob store."""

    sha256: str
    image_bytes: int
    custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text to embed."""

    text: str
    custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asks for, already parsed; `options` are the resolved options of the job's type."""

    type: JobType
    model: str
    items: Sequence[ImageItem | TextItem]
    options: dict[str, Any]


def check(submission: Submission, catalog: Catalog, limits: Limits) -> None:
    """Refuse what can be known to be wrong before anything is stored.

    Raises:
        EngineError: the model is unknown, does not exist on the hub, or is not supported.
        DomainError: no items or too many; no labels, too many, or two alike.
    """
    catalog.find(submission.model)
    if not submission.items:
        raise NoInputError(pointer="/input")
    if len(submission.items) > limits.items:
        raise TooManyInputsError(
            f"{len(submission.items)} items; one inline job takes {limits.items} at most: send several jobs.",
            pointer="/input",
        )
    if submission.type is JobType.LOGIT_LENS:
        _check_lens(submission, limits)


def submit(session: Session, tenant: str, submission: Submission) -> Job:
    """Store a checked submission as a queued job; the caller commits, then invites the workers."""
    job = Job(
        tenant=tenant,
        type=submission.type,
        model=submission.model,
        options=submission.options,
        total=len(submission.items),
    )
    session.add(job)
    session.flush()
    image_ids = _store_images(session, tenant, submission.items)
    items = [_stored(index, item, image_ids) for index, item in enumerate(submission.items)]
    units = list(enumerate(items[start : start + UNIT_ITEMS] for start in range(0, len(items), UNIT_ITEMS)))
    session.execute(
        insert(JobInput), [{"job_id": job.id, "unit": unit, "items": part} for unit, part in units]
    )
    session.execute(
        insert(Work),
        [{"job_id": job.id, "unit": unit, "model": job.model, "items": len(part)} for unit, part in units],
    )
    session.refresh(job)
    return job


def _check_lens(submission: Submission, limits: Limits) -> None:
    if any(isinstance(item, TextItem) for item in submission.items):
        raise InvalidRequestError("A logit lens reads images: give `input.images`.", pointer="/input/texts")
    labels = submission.options["labels"]
    if not labels:
        raise NoLabelsError(pointer="/labels")
    if len(labels) > limits.labels:
        raise TooManyLabelsError(
            f"{len(labels)} labels; one job takes {limits.labels} at most: split them over several jobs.",
            pointer="/labels",
        )
    seen: set[str] = set()
    for index, label in enumerate(labels):
        if not label.strip():
            raise InvalidRequestError("A label must not be empty.", pointer=f"/labels/{index}")
        if label in seen:
            raise DuplicateLabelsError(f"The label {label!r} is given twice.", pointer=f"/labels/{index}")
        seen.add(label)


def _store_images(
    session: Session, tenant: str, items: Sequence[ImageItem | TextItem]
) -> dict[str, uuid.UUID]:
    sizes = {item.sha256: item.image_bytes for item in items if isinstance(item, ImageItem)}
    if not sizes:
        return {}
    # sorted: two submits that share pictures take the index entries in one order
    rows = [{"tenant": tenant, "sha256": key, "image_bytes": sizes[key]} for key in sorted(sizes)]
    session.execute(postgresql.insert(Image).on_conflict_do_nothing(), rows)
    found = session.execute(
        select(Image.sha256, Image.id).where(Image.tenant == tenant, Image.sha256.in_(list(sizes)))
    )
    return {row.sha256: row.id for row in found}


def _stored(index: int, item: ImageItem | TextItem, image_ids: dict[str, uuid.UUID]) -> dict[str, Any]:
    if isinstance(item, TextItem):
        return {"index": index, "kind": "text", "custom_id": item.custom_id, "text": item.text}
    return {
        "index": index,
        "kind": "image",
        "custom_id": item.custom_id,
        "sha256": item.sha256,
        "image_id": str(image_ids[item.sha256]),
    }
