"""Submitting once, however often it is sent: a key of the client's choice stands for one job for a day."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs import queries
from jobs.admission import priority_of
from jobs.errors import IdempotencyKeyReusedError, InvalidIdempotencyKeyError
from jobs.images import Content
from jobs.remote import Remote, Unfetched
from jobs.submit import Item, Submission, TextItem, submit
from jobs.units import Admission
from models.idempotency_key import IdempotencyKey
from models.image import Image
from models.job import Job

KEPT = timedelta(hours=24)
MAX_KEY = 255
FORGOTTEN_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Once:
    """A client's key, and the fingerprint of what it stands for."""

    key: str
    fingerprint: str


def check_key(values: list[str]) -> str | None:
    """The key out of all headers `Idempotency-Key` of a request; None without one.

    Raises:
        InvalidIdempotencyKeyError: there are several, or it is empty, too long or not printable ASCII.
    """
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or not 1 <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKeyError
    return key


def fingerprint(submission: Submission, named: Mapping[uuid.UUID, Image]) -> str:
    """SHA-256 of what a submission asks for, with its pictures by their content.

    So a body that is sent again with another boundary, order of fields or encoding is the same; `named` are
    the images that its items name by id.
    """
    asked = {
        "type": submission.type,
        "model": submission.model,
        "options": submission.options,
        "items": [_asked(item, named) for item in submission.items],
        **_asked_beside(submission),
    }
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def find_job(session: Session, tenant: str, once: Once) -> Job | None:
    """The job that a key stands for already.

    Raises:
        IdempotencyKeyReusedError: it stands for another submission.
    """
    known = session.scalar(
        select(IdempotencyKey)
        .where(IdempotencyKey.tenant == tenant, IdempotencyKey.key == once.key)
        .where(IdempotencyKey.created_at > func.now() - KEPT)
    )
    if known is None:
        return None
    if known.fingerprint != once.fingerprint:
        raise IdempotencyKeyReusedError
    return session.scalar(queries.job_of(tenant, known.made_id))


def submit_once(
    session: Session, tenant: str, submission: Submission, admission: Admission, once: Once
) -> tuple[Job, bool]:
    """Submit, or find the job that an equal submission with this key made: the job, and whether it is new.

    Of submits at the same time one goes first, and the others wait for its commit; the caller commits.

    Raises:
        IdempotencyKeyReusedError: the key stands for another submission.
    """
    job_id = _take(session, tenant, once)
    if job_id is not None:
        return submit(session, tenant, submission, admission, job_id=job_id), True
    known = find_job(session, tenant, once)
    if known is None:
        raise RuntimeError("a key that could not be taken stands for no job")
    return known, False


def forget_keys(session: Session) -> int:
    """Remove keys that are older than a day; returns how many."""
    old = (
        select(IdempotencyKey.tenant, IdempotencyKey.key)
        .where(IdempotencyKey.created_at <= func.now() - KEPT)
        .order_by(IdempotencyKey.created_at)
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    forgotten = session.execute(
        delete(IdempotencyKey)
        .where(IdempotencyKey.tenant == old.c.tenant, IdempotencyKey.key == old.c.key)
        .returning(IdempotencyKey.key)
        .execution_options(synchronize_session=False)
    )
    return len(forgotten.all())


def _take(session: Session, tenant: str, once: Once) -> uuid.UUID | None:
    """The id of the job to be made, when the key is free; a key that is not stays locked until the commit."""
    row = insert(IdempotencyKey).values(
        tenant=tenant, key=once.key, fingerprint=once.fingerprint, made_id=func.uuidv7()
    )
    return session.scalar(
        row.on_conflict_do_update(
            index_elements=[IdempotencyKey.tenant, IdempotencyKey.key],
            set_={
                "fingerprint": row.excluded.fingerprint,
                "made": row.excluded.made,
                "made_id": row.excluded.made_id,
                "created_at": func.now(),
            },
            where=IdempotencyKey.created_at <= func.now() - KEPT,
        ).returning(IdempotencyKey.made_id)
    )


def _asked_beside(submission: Submission) -> dict[str, Any]:
    # what says no more than its absence is left out: with it said or not, the submission is the same
    terms = submission.terms
    spans = {
        "start_within_s": terms.start_within,
        "run_timeout_s": terms.run_timeout,
        "result_ttl_s": terms.result_ttl,
    }
    beside: dict[str, Any] = {name: span.total_seconds() for name, span in spans.items() if span is not None}
    priority = priority_of(submission)
    if priority is not priority_of(replace(submission, priority=None)):
        beside["priority"] = priority
    return beside


def _asked(item: Item, named: Mapping[uuid.UUID, Image]) -> dict[str, Any]:
    if isinstance(item, TextItem):
        return {"text": item.text, "custom_id": item.custom_id}
    if isinstance(item.source, Remote):
        # not what is there: sent again, it is the same, whatever is there by then
        return {"url": item.source.url, "custom_id": item.custom_id}
    if isinstance(item.source, Unfetched):
        raise TypeError("a submission is identified before its pictures are fetched")
    source = item.source if isinstance(item.source, Content) else named[item.source]
    return {"sha256": source.sha256, "custom_id": item.custom_id}
