"""What a worker does under a lease: claim, renew, complete, release. No verb commits."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from sqlalchemy.orm import Session

from jobs import transitions
from jobs.result_cache import keep_known
from models.types import AttemptOutcome

STORED_AT_ONCE: Final = 64
"""So many results go into one statement: their JSON is held as a whole, here and by Postgres."""


@dataclass(frozen=True, slots=True)
class Appetite:
    """How much a worker takes at once: so many single items, or as many as are estimated to fit."""

    items: int = 1
    memory_bytes: int = 2**62
    beside: bool = False
    """Other work is held already: take nothing that is suspected of ending its worker."""
    single: bool = False
    """Take only single items, and only when it is their turn."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work, with all that is needed to run it.

    Estimated are `cost`, in GFLOP, and `item_bytes`, the memory that each item takes in a batch.
    """

    job_id: uuid.UUID
    unit: int
    attempt: int
    cost: float
    item_bytes: int
    tenant: str
    type: str
    options: dict[str, Any]
    items: list[dict[str, Any]]
    request_id: str | None = None
    """The request that its job was submitted with."""
    traceparent: str | None = None
    """Its span, see `jobs.tracing`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Units under one lease: one of any size, or single items that may share a forward pass.

    Those have the type, the options and, where labels are read, the tenant in common.
    """

    token: uuid.UUID
    units: tuple[Unit, ...]
    sociable: bool = True
    """Whether other work may be held beside it: it has not been lost twice, and has ended no worker."""

    @property
    def size(self) -> int:
        """The number of items."""
        return sum(len(unit.items) for unit in self.units)

    @property
    def is_of_singles(self) -> bool:
        """Whether all its units are of one item."""
        return self.size == len(self.units)

    @property
    def cost(self) -> float:
        """The estimate for all of it, in GFLOP."""
        return sum(unit.cost for unit in self.units)


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How one item ended: exactly one of payload and error is set."""

    item: dict[str, Any]
    payload: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    cache_id: uuid.UUID | None = None
    """What later jobs find its numbers by, see `jobs.result_cache`."""


@dataclass(frozen=True, slots=True)
class UnitResult:
    """How a unit ended: its items in their order, and what computed them."""

    job_id: uuid.UUID
    unit: int
    items: Sequence[ItemResult]
    provenance: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """A unit that its worker could not do, though it may be done at another time, and why."""

    job_id: uuid.UUID
    unit: int
    reason: str


@dataclass(slots=True)
class Count:
    """What is to be added to a job; `error` is why the first item failed, or why some were dropped."""

    succeeded: int = 0
    failed: int = 0
    dropped: int = 0
    provenance: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    units: list[tuple[int, int]] = field(default_factory=list)
    """Units of which results were stored, each with the number of its items."""


class Renewal(StrEnum):
    """What a heartbeat learns of its lease."""

    RENEWED = "renewed"
    UNWANTED = "unwanted"
    """Renewed, but every job of it is being cancelled."""
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims, and for how long: `ttl` between heartbeats, `hard_limit` at all."""

    worker_id: uuid.UUID
    ttl: timedelta
    hard_limit: timedelta
    appetite: Appetite = field(default_factory=Appetite)


def claim(session: Session, model: str, holder: Holder) -> Claim | None:
    """The first waiting work of the model, now leased to this worker; None when nothing waits."""
    session.execute(transitions.READ_BY_INDEX)
    rows = session.execute(
        transitions.CLAIM,
        {
            "model": model,
            "worker_id": holder.worker_id,
            "ttl": holder.ttl,
            "hard_limit": holder.hard_limit,
            "lonely_losses": transitions.LONELY_LOSSES,
            "max_strikes": transitions.MAX_STRIKES,
            "max_items": holder.appetite.items,
            "max_bytes": holder.appetite.memory_bytes,
            "beside": holder.appetite.beside,
            "single": holder.appetite.single,
        },
    ).all()
    if not rows:
        return None
    session.execute(transitions.START_JOBS, {"job_ids": sorted({row.job_id for row in rows})})
    session.execute(transitions.RAISE_FLOOR, {"model": model, "vtime": rows[0].vtime})
    units = tuple(
        Unit(
            row.job_id,
            row.unit,
            row.attempt,
            row.cost,
            row.item_bytes,
            row.tenant,
            row.type,
            row.options,
            row.items,
            row.request_id,
            row.traceparent,
        )
        for row in rows
    )
    return Claim(rows[0].token, units, sociable=rows[0].sociable)


def is_single_next(session: Session, model: str) -> bool:
    """Whether the work of the model that waits first is a single item that may be run beside other work.

    It holds nobody up, unlike a claim that would take nothing else: that locks what it looks at.
    """
    session.execute(transitions.READ_BY_INDEX)
    limits = {"lonely_losses": transitions.LONELY_LOSSES, "max_strikes": transitions.MAX_STRIKES}
    return bool(session.scalar(transitions.LOOK, {"model": model, **limits}))


def renew(session: Session, token: uuid.UUID) -> Renewal:
    """Extend the lease by its lifetime; when it is lost, or nobody wants the work any more, abandon it."""
    row = session.execute(transitions.RENEW, {"token": token}).one_or_none()
    if row is None:
        return Renewal.LOST
    return Renewal.UNWANTED if row[0] else Renewal.RENEWED


def complete(
    session: Session, token: uuid.UUID, results: Sequence[UnitResult], returned: Sequence[Returned] = ()
) -> bool:
    """Store and count the results of the leased work; False, and nothing written, when the lease is lost.

    What is `returned` waits again, one loss richer; every other unit of the lease must have its results.
    """
    if session.execute(transitions.END_LEASE, {"token": token}).one_or_none() is None:
        return False
    if returned:
        _return_units(session, token, returned)
    work = {
        (row.job_id, row.unit): row.items for row in session.execute(transitions.END_WORK, {"token": token})
    }
    done = {(result.job_id, result.unit): len(result.items) for result in results}
    if work != done:
        raise ValueError(f"results of {done} for the work {work}: a job could never end")
    _end_attempts(session, token, AttemptOutcome.COMPLETED, None)
    if results:
        store_results(session, results)
    return True


def release(session: Session, token: uuid.UUID, reason: str, *, counts: bool = True) -> bool:
    """Give the leased work back; False when the lease was lost already.

    `counts` false is for work that was not at fault and not even tried: it waits again at once.
    """
    if session.execute(transitions.END_LEASE, {"token": token}).one_or_none() is None:
        return False
    session.execute(transitions.RETURN_WORK, {"token": token, "losses": int(counts)})
    _end_attempts(session, token, AttemptOutcome.RELEASED, reason)
    return True


def store_results(session: Session, results: Sequence[UnitResult]) -> None:
    """Insert the results of work that was just removed, and count them on their jobs."""
    rows = (
        {"job_id": str(done.job_id), "item": one.item, "payload": one.payload, "error": one.error}
        for done in results
        for one in done.items
    )
    while several := list(islice(rows, STORED_AT_ONCE)):
        session.execute(transitions.STORE_RESULTS, {"results": several})
    keep_known(
        session,
        [
            (one.cache_id, done.job_id, int(one.item["index"]))
            for done in results
            for one in done.items
            if one.cache_id is not None
        ],
    )
    counts: dict[uuid.UUID, Count] = defaultdict(Count)
    for done in results:
        count = counts[done.job_id]
        errors = [result.error for result in done.items if result.error]
        count.succeeded += len(done.items) - len(errors)
        count.failed += len(errors)
        count.provenance = count.provenance or done.provenance
        count.error = count.error or next(iter(errors), None)
        count.units.append((done.unit, len(done.items)))
    count_items(session, counts)


def count_items(session: Session, counts: dict[uuid.UUID, Count]) -> None:
    """Count items whose work was removed in this transaction; a job of which all are counted has ended."""
    ids = sorted(counts)
    ordered: Iterable[Count] = [counts[job_id] for job_id in ids]
    session.execute(transitions.HOLD_JOBS, {"job_ids": ids})
    session.execute(
        transitions.COUNT_ITEMS,
        {
            "job_ids": ids,
            "succeeded": [count.succeeded for count in ordered],
            "failed": [count.failed for count in ordered],
            "dropped": [count.dropped for count in ordered],
            "provenances": [count.provenance for count in ordered],
            "errors": [count.error for count in ordered],
            **_places(counts),
        },
    )


def _places(counts: dict[uuid.UUID, Count]) -> dict[str, list[Any]]:
    """Of every unit its job, its number, and how many items of the same job are counted after its own."""
    places: dict[str, list[Any]] = {"unit_job_ids": [], "units": [], "behind": []}
    for job_id, count in counts.items():
        behind = count.dropped
        for unit, items in reversed(count.units):
            places["unit_job_ids"].append(job_id)
            places["units"].append(unit)
            places["behind"].append(behind)
            behind += items
    return places


def _return_units(session: Session, token: uuid.UUID, returned: Sequence[Returned]) -> None:
    session.execute(
        transitions.RETURN_UNITS,
        {
            "token": token,
            "job_ids": [unit.job_id for unit in returned],
            "units": [unit.unit for unit in returned],
            "reasons": [unit.reason for unit in returned],
        },
    )


def _end_attempts(session: Session, token: uuid.UUID, outcome: AttemptOutcome, reason: str | None) -> None:
    session.execute(transitions.END_ATTEMPT, {"token": token, "outcome": outcome, "reason": reason})
