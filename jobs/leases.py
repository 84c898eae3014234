"""What a worker does under a lease: claim, renew, complete, release. No verb commits."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from jobs import transitions
from models.job import Result
from models.types import AttemptOutcome, ItemState


@dataclass(frozen=True, slots=True)
class Claim:
    """A unit of work under lease, with all that is needed to run it."""

    token: uuid.UUID
    job_id: uuid.UUID
    unit: int
    attempt: int
    tenant: str
    type: str
    options: dict[str, Any]
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How one item ended: exactly one of payload and error is set."""

    item: dict[str, Any]
    payload: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def claim(
    session: Session, *, model: str, worker_id: uuid.UUID, ttl: timedelta, hard_limit: timedelta
) -> Claim | None:
    """The oldest waiting unit of the model, now leased to this worker; None when nothing waits."""
    row = session.execute(
        transitions.CLAIM, {"model": model, "worker_id": worker_id, "ttl": ttl, "hard_limit": hard_limit}
    ).one_or_none()
    if row is None:
        return None
    session.execute(transitions.START_JOB, {"job_id": row.job_id})
    return Claim(*row)


def renew(session: Session, token: uuid.UUID) -> bool:
    """Extend the lease by its lifetime; False when it is lost and the work must be abandoned."""
    return session.execute(transitions.RENEW, {"token": token}).one_or_none() is not None


def complete(
    session: Session,
    token: uuid.UUID,
    results: Sequence[ItemResult],
    provenance: dict[str, Any] | None = None,
) -> bool:
    """Store and count the results of the leased work; False, and nothing written, when the lease is lost."""
    if session.execute(transitions.END_LEASE, {"token": token}).one_or_none() is None:
        return False
    work = session.execute(transitions.END_WORK, {"token": token}).one()
    if work.items != len(results):
        raise ValueError(f"{len(results)} results for {work.items} items: the job could never end")
    _end_attempt(session, token, AttemptOutcome.COMPLETED, None)
    store_results(session, work.job_id, results, provenance)
    return True


def release(session: Session, token: uuid.UUID, reason: str) -> bool:
    """Give the leased work back after a fault that may pass; False when the lease was lost already."""
    if session.execute(transitions.END_LEASE, {"token": token}).one_or_none() is None:
        return False
    session.execute(transitions.RETURN_WORK, {"token": token})
    _end_attempt(session, token, AttemptOutcome.RELEASED, reason)
    return True


def store_results(
    session: Session,
    job_id: uuid.UUID,
    results: Sequence[ItemResult],
    provenance: dict[str, Any] | None = None,
) -> None:
    """Insert the results of work that was just removed, and count them on the job."""
    session.execute(
        insert(Result),
        [
            {
                "job_id": job_id,
                "index": result.item["index"],
                "state": ItemState.FAILED if result.error else ItemState.SUCCEEDED,
                "item": result.item,
                "payload": result.payload,
                "error": result.error,
            }
            for result in results
        ],
    )
    errors = [result.error for result in results if result.error]
    session.execute(
        transitions.COUNT_ITEMS,
        {
            "job_id": job_id,
            "succeeded": len(results) - len(errors),
            "failed": len(errors),
            "dropped": 0,
            "provenance": provenance,
            "error": errors[0] if errors else None,
        },
    )


def _end_attempt(session: Session, token: uuid.UUID, outcome: AttemptOutcome, reason: str | None) -> None:
    session.execute(transitions.END_ATTEMPT, {"token": token, "outcome": outcome, "reason": reason})
