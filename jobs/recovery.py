"""The duties that bring work back from whoever lost it, and end what cannot be done."""

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jobs import queries, transitions
from jobs.leases import ItemResult, UnitResult, store_results
from models.job import JobInput
from models.types import AttemptOutcome
from models.work import Work

log = structlog.get_logger()

MAX_GAP: Final = timedelta(seconds=5)
MAX_LOSSES: Final = 10
MAX_STRIKES: Final = transitions.MAX_STRIKES
LOST: Final[dict[str, Any]] = {
    "code": "worker-lost",
    "message": f"{MAX_LOSSES} tries ended without a result, the last with the worker gone: too large for it?",
    "retryable": True,
}
FAILED: Final[dict[str, Any]] = {
    "code": "inference-failed",
    "message": f"{MAX_LOSSES} tries in a row failed for a fault of the worker; its log says which.",
    "retryable": True,
}
CRASHED: Final[dict[str, Any]] = {
    "code": "worker-crashed",
    "message": f"It ended {MAX_STRIKES} healthy workers by a fatal signal; their logs say which.",
    "retryable": False,
}


class Expiry:
    """Takes leases that ran out from their holders; the work waits again.

    Belongs to one loop, which does nothing else and runs it every second: where its last run is long ago, the
    database was away or its clock jumped, and nobody could renew. Then all holders have one lifetime more.
    """

    def __init__(self) -> None:
        self._heard_at: datetime | None = None
        self._away_until: datetime | None = None

    def __call__(self, session: Session) -> int:
        """Returns how many; 100 at a time."""
        # the time of this transaction's begin: by the same one it is decided which leases are over
        now = session.scalars(select(func.now())).one()
        if self._heard_at is not None and not timedelta(0) <= now - self._heard_at <= MAX_GAP:
            log.warning("database.was_away", seconds=(now - self._heard_at).total_seconds())
            self._away_until = now
        self._heard_at = now
        return expire_leases(session, self._away_until)


def expire_leases(session: Session, away_until: datetime | None = None) -> int:
    """Take leases that ran out from their holders, but not before they could renew again."""
    tokens = session.execute(transitions.EXPIRE_LEASES, {"away_until": away_until}).scalars().all()
    for token in tokens:
        log.warning("lease.expired", token=str(token))
    return len(tokens)


def fail_hopeless(session: Session) -> int:
    """Fail the items of work that was lost too often, so that its job ends."""
    taken = session.execute(transitions.TAKE_HOPELESS, {"max_losses": MAX_LOSSES}).all()
    failed = []
    for job_id, unit in taken:
        outcome = session.scalar(queries.last_outcome(job_id, unit))
        failed.append(_failed(session, job_id, unit, FAILED if outcome == AttemptOutcome.RELEASED else LOST))
        log.error("work.hopeless", job_id=str(job_id), unit=unit)
    if failed:
        store_results(session, failed)
    return len(taken)


def judge_struck(session: Session) -> int:
    """Part units that killed a healthy worker into single items; fail a single item that did so thrice."""
    taken = session.execute(transitions.TAKE_STRUCK, {"max_strikes": MAX_STRIKES}).all()
    failed = []
    for struck in taken:
        log.error("work.struck", job_id=str(struck.job_id), unit=struck.unit, strikes=struck.strikes)
        if struck.items > 1:
            _explode(session, struck)
        else:
            failed.append(_failed(session, struck.job_id, struck.unit, CRASHED))
    if failed:
        store_results(session, failed)
    return len(taken)


def _failed(session: Session, job_id: Any, unit: int, error: dict[str, Any]) -> UnitResult:
    items = session.scalars(
        select(JobInput.items).where(JobInput.job_id == job_id, JobInput.unit == unit)
    ).one()
    return UnitResult(job_id, unit, [ItemResult(item, error=error) for item in items])


def _explode(session: Session, struck: Any) -> None:
    """Put each item of a unit into a unit of its own, that is claimed alone."""
    where = (JobInput.job_id == struck.job_id, JobInput.unit == struck.unit)
    row = session.scalars(select(JobInput).where(*where)).one()
    first = (session.scalar(select(func.max(JobInput.unit)).where(JobInput.job_id == struck.job_id)) or 0) + 1
    session.execute(delete(JobInput).where(*where))
    # not what an item only tells of: a rescore reads no picture
    named = set(map(str, row.image_ids))
    for unit, item in enumerate(row.items, start=first):
        image_ids = [item["image_id"]] if item.get("image_id") in named else []
        session.add(JobInput(job_id=struck.job_id, unit=unit, items=[item], image_ids=image_ids))
        session.add(
            Work(
                job_id=struck.job_id,
                unit=unit,
                model=struck.model,
                items=1,
                vtime=struck.vtime,
                cost=struck.cost / struck.items,
                batch_key=struck.batch_key,
                item_bytes=struck.item_bytes,
                losses=struck.losses,
                strikes=struck.strikes,
            )
        )
    session.flush()
