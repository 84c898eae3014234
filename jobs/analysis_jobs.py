"""Jobs that need no model: stored for the queue `analysis`, an item a unit, and charged like any other."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Double, bindparam, func, text
from sqlalchemy.orm import Session

from jobs import fairness
from jobs.fairness import WEIGHTS, FlowKey
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
    cost = total * wanted.item_gflop
    clock = session.scalars(CHARGE, fairness.charge_of(flow, cost)).one()
    # no two of them run together: a worker claims one unit at a time
    admission = Admission(
        flow,
        clock - cost / WEIGHTS[flow.priority],
        Price(wanted.item_gflop, 0),
        1,
        wanted.type,
        # stored in the transaction that charges it: nobody will have to ask whether it was
        charge_id=uuid.uuid4(),
    )
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
        cost=cost,
        vtime_end=clock,
        input_bytes=wanted.input_bytes,
        start_by=None if terms.start_within is None else func.now() + terms.start_within,
        run_timeout=terms.run_timeout,
        result_ttl=terms.result_ttl,
    )
    session.add(job)
    session.flush()
    numbered = ({"index": index, **item} for index, item in enumerate(wanted.items))
    store_units(session, job, numbered, admission)
    return job
