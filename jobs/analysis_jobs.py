"""Jobs that need no model: stored for the queue `analysis`, an item a unit, and charged like any other."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Double, bindparam, func, text
from sqlalchemy.orm import Session

from jobs import fairness
from jobs.admission import Quota, check_room
from jobs.fairness import WEIGHTS, FlowKey
from jobs.origin import origin
from jobs.pricing import Price
from jobs.submission import Terms
from jobs.units import Admission, store_units
from models.job import Job
from models.queue import ANALYSIS
from models.types import JobType, Priority

CHARGE: Final = text(f"""
    WITH allowed AS (SELECT 1), {fairness.CHARGE}
    SELECT clock FROM charged
""").bindparams(bindparam("charged", type_=Double()))  # noqa: S608 - put together of statements of this code


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: its items, each with `kind` and `custom_id`, and what an item is estimated to cost.

    The cost is in GFLOP, as of any job: by it the flows of this queue share its workers.
    """

    type: JobType
    items: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    item_gflop: float
    version_id: uuid.UUID
    input_bytes: int = 0
    priority: Priority = Priority.BULK
    terms: Terms = field(default_factory=Terms)
    tags: Mapping[str, str] = field(default_factory=dict)
    key_id: uuid.UUID | None = None
    webhook_endpoint_id: uuid.UUID | None = None


def store_job(session: Session, tenant: str, wanted: Wanted, *, job_id: uuid.UUID | None = None) -> Job:
    """Store a queued job of the queue `analysis`; the caller commits, then invites the workers.

    Whether there is room for it, see `jobs.admission.check_room`.
    """
    flow = FlowKey(ANALYSIS, tenant, wanted.priority)
    total = len(wanted.items)
    admission = _charge(session, flow, wanted.item_gflop, total)
    terms = wanted.terms
    job = Job(
        id=job_id,
        tenant=tenant,
        key_id=wanted.key_id,
        type=wanted.type,
        model=ANALYSIS,
        options=dict(wanted.options),
        tags=dict(wanted.tags),
        priority=wanted.priority,
        version_id=wanted.version_id,
        webhook_endpoint_id=wanted.webhook_endpoint_id,
        total=total,
        cost=admission.cost(total),
        vtime_end=admission.end(total),
        input_bytes=wanted.input_bytes,
        start_by=None if terms.start_within is None else func.now() + terms.start_within,
        run_timeout=terms.run_timeout,
        result_ttl=terms.result_ttl,
        **origin(),
    )
    session.add(job)
    session.flush()
    numbered = ({"index": index, **item} for index, item in enumerate(wanted.items))
    store_units(session, job, numbered, admission)
    return job


def admit_again(session: Session, job: Job, items: int, quota: Quota) -> Admission:
    """Admit so many items of a job of this queue another time, at what they were estimated to cost.

    Raises:
        QuotaExceededError: the tenant has no room for any job.
    """
    check_room(session, job.tenant, quota)
    return _charge(session, fairness.flow_of(job), job.cost / job.total, items)


def _charge(session: Session, flow: FlowKey, item_gflop: float, items: int) -> Admission:
    cost = items * item_gflop
    clock = session.scalars(CHARGE, fairness.charge_of(flow, cost)).one()
    start = clock - cost / WEIGHTS[flow.priority]
    # an item a unit; none of them share a pass, whatever their key. Stored by whoever charges it:
    # nobody will have to ask whether it was
    return Admission(flow, start, Price(item_gflop, 0), unit_items=1, batch_key="", charge_id=uuid.uuid4())
