"""Letting a job in: is there room for it, what will it cost, and where in the queue does it begin."""

import uuid
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Double, Row, Uuid, bindparam, column, select, text
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from jobs import fairness, queries, reservations
from jobs.errors import DomainError, InvalidRequestError, OverQuotaError, QueueFullError, QuotaExceededError
from jobs.fairness import FlowKey
from jobs.pricing import Price, price
from jobs.reservations import Held
from jobs.submission import Submission
from jobs.units import Admission, batch_key
from models.job import Job
from models.session import Database
from models.types import Priority

log = structlog.get_logger()

INTERACTIVE_ITEMS: Final = 64
UNIT_SECONDS: Final = 1.0
"""A unit of a bulk job is about so much work: what a crash recomputes, and what one claim pays for."""
MAX_UNIT_ITEMS: Final = 128
UNIT_OUTPUT_BYTES: Final = 256 * 2**20
"""A unit's arrays take no more, unless one item's do: a worker holds them until it stores them all."""
UNITS: Final = ("items", "bytes of pictures", "GFLOP of work")
ASSUMED_SECONDS_PER_GFLOP: Final = 1 / 200
"""Of a model that no worker has measured yet: two cores of a server."""

_HELD_SQL = """
    SELECT coalesce(sum(items), 0) AS items, coalesce(sum(input_bytes), 0) AS input_bytes,
           coalesce(sum(gflop), 0) AS gflop
    FROM (
        SELECT waiting AS items, input_bytes, cost * waiting / total AS gflop
        FROM jobs, LATERAL (SELECT total - succeeded - failed - dropped AS waiting) AS left_over
        WHERE tenant = :tenant AND ended_at IS NULL
        UNION ALL
        -- of each name the most: twins share what one of them has
        SELECT max(items), max(input_bytes), max(gflop)
        FROM reservations
        WHERE tenant = :tenant AND name <> :own AND until > now()
        GROUP BY name
    ) AS counted
"""
_HELD = text(_HELD_SQL)
# one statement, which alone is a transaction: every submit makes it
_ADMIT = (
    text(f"""
    WITH held AS ({_HELD_SQL}), allowed AS (
        SELECT FROM held
        WHERE items + :items <= :most_items
          AND input_bytes + :input_bytes <= :most_input_bytes
          AND gflop + :gflop <= :most_gflop
    ), {fairness.CHARGE}
    SELECT items, input_bytes, gflop, (SELECT clock FROM charged) AS clock, uuidv7() AS charge_id FROM held
""")  # noqa: S608 - put together of statements of this code, nothing from outside
    .bindparams(
        bindparam("charged", type_=Double()),
        bindparam("gflop", type_=Double()),
        bindparam("most_gflop", type_=Double()),
    )
    # named: SQLAlchemy would find out anew each time what is in a row
    .columns(*map(column, ("items", "input_bytes", "gflop", "clock")), column("charge_id", Uuid()))
)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may wait or run at once: of one tenant, and `queue_items` of everybody."""

    items: int = 2_000_000
    input_bytes: int = 256 * 2**30
    gflop: float = float("inf")
    queue_items: int = 10_000_000


def priority_of(submission: Submission) -> Priority:
    """The priority that was asked for, or the one that suits its size."""
    if submission.priority is not None:
        return submission.priority
    return Priority.INTERACTIVE if submission.size <= INTERACTIVE_ITEMS else Priority.BULK


def check_priority(submission: Submission) -> None:
    """Refuse a large job that asks to be served like a small one.

    Raises:
        InvalidRequestError: it is interactive with more items than such a job may have.
    """
    if submission.priority is Priority.INTERACTIVE and submission.size > INTERACTIVE_ITEMS:
        raise InvalidRequestError(
            f"An interactive job has {INTERACTIVE_ITEMS} items at most, this one {submission.size}:"
            " send it as bulk.",
            pointer="/priority",
        )


def admit(
    database: Database,
    tenant: str,
    submission: Submission,
    catalog: Catalog,
    quota: Quota,
    *,
    input_bytes: int = 0,
    waiting_items: int = 0,
    reserve_as: str | None = None,
) -> Admission:
    """Check quotas and charge the job's flow; to be committed alone, before anything of the job is stored.

    `input_bytes` is what its pictures weigh, `waiting_items` how much waits in all, as the caller last heard.
    Room is set aside under `reserve_as` where storing it takes long: what it counts then is given up when it
    is stored, or by `give_back`. What is set aside under the same name is not counted against it.

    Raises:
        QueueFullError: the service has too much waiting already.
        QuotaExceededError: the tenant has.
        OverQuotaError: it would never fit, however empty the queue.
    """
    items = submission.size
    if items > quota.queue_items:
        raise OverQuotaError(f"The queue takes {quota.queue_items} items in all, this job has {items}.")
    if waiting_items + items > quota.queue_items:
        raise QueueFullError
    asked = price(submission.type, submission.resolved, submission.kind, catalog.find(submission.model))
    flow = FlowKey(submission.model, tenant, priority_of(submission))
    cost = items * asked.item_gflop + asked.label_gflop
    wanted, reservation_id = Held(items, input_bytes, cost), None
    if reserve_as is not None:
        # before the flow: of two models, two large jobs would not see each other
        reservations.wait_turn(database, tenant)
    # before the charge, which may be committed as it is made: nothing that fails comes after it
    unit_items = _unit_items(database, flow, asked)
    start, charge_id = _charge(database, flow, wanted, quota, reserve_as or "")
    if reserve_as is not None:
        reservation_id = reservations.reserve(database, tenant, reserve_as, wanted)
    shared = batch_key(tenant, submission.type, submission.kind, submission.resolved)
    return Admission(flow, start, asked, unit_items, shared, charge_id, reservation_id)


def give_back(session: Session, admission: Admission, items: int) -> None:
    """Undo the admission of a job that is not stored after all; to be committed alone, like `admit`."""
    if admission.reservation_id is not None:
        reservations.give_up(session, admission.reservation_id)
    fairness.refund(session, admission.flow, admission.cost(items))


def give_back_unless_stored(session: Session, admission: Admission, items: int) -> None:
    """Give back what was charged for a job whose storing failed: unless it is there, and only nobody heard.

    A connection may break while the answer to a commit is on its way. The job is known by its charge: its
    own id is drawn when it is stored, and only who heard knows it. Where the server has not yet found out
    that the connection broke, it may commit after we have looked: such a job is served, and not charged.
    """
    # of the ids, those drawn since the charge: a few, by the primary key
    ours = select(Job.id).where(Job.id > admission.charge_id, Job.charge_id == admission.charge_id)
    if session.scalar(select(ours.exists())):
        if admission.reservation_id is not None:
            reservations.give_up(session, admission.reservation_id)
        log.warning("submit.unheard", model=admission.flow.model, items=items)
    else:
        give_back(session, admission, items)


def read_held(database: Database, tenant: str, *, but: str = "") -> Held:
    """What of a tenant waits or runs, or is being stored: but for what is set aside under a name.

    Read of its jobs that have not ended, which an index holds.
    """
    return _held(database.execute(_HELD, {"tenant": tenant, "own": but}).one())


def check_room(session: Session, tenant: str, quota: Quota) -> None:
    """Refuse a tenant that has no room for any job, before it sends one.

    Raises:
        QuotaExceededError: it holds as much as it may.
    """
    for has, limit, unit in zip(read_held(session, tenant), _limits(quota), UNITS, strict=True):
        if has >= limit:
            raise QuotaExceededError(
                f"{has:.0f} {unit} of yours wait or run, and {limit:.0f} may: try again when some of it is"
                " done."
            )


def _charge(
    database: Database, flow: FlowKey, asked: Held, quota: Quota, own: str
) -> tuple[float, uuid.UUID]:
    """Charge a flow, if the tenant has room: the virtual time at which the job begins, the charge's id."""
    most_items, most_input_bytes, most_gflop = _limits(quota)
    charge = fairness.charge_of(flow, asked.gflop)
    row = database.execute(
        _ADMIT,
        {
            **charge,
            **asked._asdict(),
            "own": own,
            "most_items": most_items,
            "most_input_bytes": most_input_bytes,
            "most_gflop": most_gflop,
        },
    ).one()
    if row.clock is None:
        raise _over_quota(_held(row), asked, quota)
    return float(row.clock) - float(charge["charged"]), row.charge_id


def _held(row: Row[Any]) -> Held:
    return Held(int(row.items), int(row.input_bytes), float(row.gflop))


def _over_quota(held: Held, asked: Held, quota: Quota) -> DomainError:
    for has, size, limit, unit in zip(held, asked, _limits(quota), UNITS, strict=True):
        if size > limit:
            return OverQuotaError(
                f"This job has {size:.0f} {unit}, {limit:.0f} of yours may wait at once: send it in parts."
            )
        if has + size > limit:
            return QuotaExceededError(
                f"{has:.0f} {unit} of yours wait or run, this job has {size:.0f}, and {limit:.0f} may: try"
                " again when some of it is done."
            )
    raise AssertionError("a job was refused for which there is room")


def _limits(quota: Quota) -> tuple[int, int, float]:
    return quota.items, quota.input_bytes, quota.gflop


def _unit_items(database: Database, flow: FlowKey, asked: Price) -> int:
    if flow.priority is Priority.INTERACTIVE:
        return 1
    measured = database.scalar(queries.seconds_per_gflop(flow.model)) or ASSUMED_SECONDS_PER_GFLOP
    item_seconds = asked.item_gflop * measured
    most = min(MAX_UNIT_ITEMS, UNIT_OUTPUT_BYTES // max(asked.output_bytes, 1))
    return max(1, min(most, round(UNIT_SECONDS / item_seconds)))
