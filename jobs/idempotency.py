"""Making a thing once, however often it is asked for: a key of the client's choice stands for it for a day.

A route whose POST makes something takes the key of the request (`api.once.once_of`), and has the thing made
or found in the transaction of the request:

    endpoint, new = idempotency.make_once(session, tenant, once, make, find)

`make` gets the id that the row must have (None without a key), `find` the id of what was made before.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import orjson
from sqlalchemy import Select, delete, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs import queries
from jobs.admission import priority_of
from jobs.deletion import existing
from jobs.errors import (
    IdempotencyKeyInUseError,
    IdempotencyKeyReusedError,
    IdempotencyKeySpentError,
    InvalidIdempotencyKeyError,
)
from jobs.images import Content
from jobs.remote import Remote, Unfetched
from jobs.submission import Item, Submission, TextItem
from jobs.submit import submit
from jobs.units import Admission
from models.idempotency_key import IdempotencyKey
from models.image import Image
from models.job import Job
from models.types import Made

Thing = TypeVar("Thing")

KEPT = timedelta(hours=24)
MAX_KEY = 255
FORGOTTEN_AT_ONCE = 1_000
LOCK_SEED = 0x4C51
"""Of the advisory locks of keys, whose numbers of 64 bits are apart from the pairs that other locks have."""


@dataclass(frozen=True, slots=True)
class Once:
    """A client's key, the fingerprint of what it stands for, and what is made with it."""

    key: str
    fingerprint: str
    made: Made = Made.JOB


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
        **_asked_of(submission),
        **_asked_beside(submission),
    }
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _asked_of(submission: Submission) -> dict[str, Any]:
    # a rescore tells its job among its options
    version_id = submission.source and submission.source.version_id
    return {} if version_id is None else {"version": str(version_id)}


def fingerprint_of(path: str, body: Any) -> str:
    """SHA-256 of a request by its path and its body, as JSON of which the order of fields says nothing."""
    return hashlib.sha256(orjson.dumps([path, body], option=orjson.OPT_SORT_KEYS)).hexdigest()


def make_once(
    session: Session,
    tenant: str,
    once: Once | None,
    make: Callable[[uuid.UUID | None], Thing],
    find: Callable[[uuid.UUID], Thing | None],
) -> tuple[Thing, bool]:
    """Make a thing, or find what an equal request with this key made: the thing, and whether it is new.

    Of requests at the same time one goes first. The others do not wait for it here, where each would hold a
    connection for as long as the first takes: they come again, see `api.once.in_turn`. The caller commits.

    Raises:
        IdempotencyKeyInUseError: another request is about to make it.
        IdempotencyKeyReusedError: the key stands for another request.
        IdempotencyKeySpentError: what the key stands for is gone.
    """
    if once is None:
        return make(None), True
    made_id = _take(session, tenant, once)
    if made_id is not None:
        return make(made_id), True
    known_id = find_made(session, tenant, once)
    if known_id is None:
        raise IdempotencyKeyInUseError
    known = find(known_id)
    if known is None:
        raise IdempotencyKeySpentError
    return known, False


def find_made(session: Session, tenant: str, once: Once) -> uuid.UUID | None:
    """The id of what a key stands for already; None when the key is free.

    Raises:
        IdempotencyKeyReusedError: it stands for another request.
    """
    known = session.scalar(
        select(IdempotencyKey)
        .where(IdempotencyKey.tenant == tenant, IdempotencyKey.key == once.key)
        .where(IdempotencyKey.created_at > func.now() - KEPT)
    )
    if known is None:
        return None
    if (known.fingerprint, known.made) != (once.fingerprint, once.made):
        raise IdempotencyKeyReusedError
    return known.made_id


def note(session: Session, tenant: str, once: Once, told: Mapping[str, Any]) -> None:
    """Keep what is answered with the key, in the transaction of what it tells of."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.tenant == tenant, IdempotencyKey.key == once.key)
        .values(told=dict(told))
    )


def noted(tenant: str, once: Once) -> Select[dict[str, Any] | None]:
    """What was kept with a key."""
    return select(IdempotencyKey.told).where(IdempotencyKey.tenant == tenant, IdempotencyKey.key == once.key)


def is_known(tenant: str, key: str) -> Select[bool]:
    """Whether a key stands for anything, whatever it is."""
    known = select(IdempotencyKey.key).where(
        IdempotencyKey.tenant == tenant,
        IdempotencyKey.key == key,
        IdempotencyKey.created_at > func.now() - KEPT,
    )
    return select(known.exists())


def find_job(session: Session, tenant: str, once: Once) -> Job | None:
    """The job that a key stands for already; None when the key is free.

    Raises:
        IdempotencyKeyReusedError: it stands for another submission.
        JobDeletedError, IdempotencyKeySpentError: the job was deleted, and in the end is gone.
    """
    known_id = find_made(session, tenant, once)
    if known_id is None:
        return None
    return known_job(session, tenant, known_id)


def known_job(session: Session, tenant: str, job_id: uuid.UUID) -> Job:
    """The job that was made with a key.

    Raises:
        JobDeletedError, IdempotencyKeySpentError: the job was deleted, and in the end is gone.
    """
    job = session.scalar(queries.job_of(tenant, job_id))
    if job is None:
        raise IdempotencyKeySpentError
    return existing(job)


def submit_once(
    session: Session, tenant: str, submission: Submission, admission: Admission, once: Once
) -> tuple[Job, bool]:
    """Submit, or find the job that an equal submission with this key made: the job, and whether it is new.

    Raises:
        IdempotencyKeyReusedError: the key stands for another submission.
        JobDeletedError, IdempotencyKeySpentError: the job was deleted, and in the end is gone.
    """
    return make_once(
        session,
        tenant,
        once,
        lambda job_id: submit(session, tenant, submission, admission, job_id=job_id),
        lambda job_id: known_job(session, tenant, job_id),
    )


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
    """The id of the thing to be made, when the key is free and nobody else is about to take it.

    The lock is what says so without waiting: whoever finds the row itself not committed yet has to wait.
    """
    free = func.pg_try_advisory_xact_lock(func.hashtextextended(f"{tenant}\n{once.key}", LOCK_SEED))
    taken = select(
        literal(tenant), literal(once.key), literal(once.fingerprint), literal(once.made), func.uuidv7()
    ).where(free)
    row = insert(IdempotencyKey).from_select(["tenant", "key", "fingerprint", "made", "made_id"], taken)
    return session.scalar(
        row.on_conflict_do_update(
            index_elements=[IdempotencyKey.tenant, IdempotencyKey.key],
            set_={
                "fingerprint": row.excluded.fingerprint,
                "made": row.excluded.made,
                "made_id": row.excluded.made_id,
                "told": null(),
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
    if submission.tags:
        beside["tags"] = dict(submission.tags)
    if submission.webhook_endpoint_id is not None:
        beside["webhook"] = submission.webhook_endpoint_id
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
