"""Whose turn it is: start-time fair queueing of flows (Goyal, Vin and Cheng 1996, "Start-time Fair Queuing").

A flow is what one tenant sends to one model at one priority. Its clock is charged with the estimated cost of
each job, divided by its weight; a unit's virtual time is where the clock stood, and the queue is read in the
order of virtual time. A flow that was away begins where the queue has come by then: idle time is not saved
up, and what a flow took while nobody else wanted it is not held against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.job import Job
from models.queue import Flow, Queue
from models.types import Priority

WEIGHTS: Final[Mapping[Priority, float]] = {Priority.INTERACTIVE: 8.0, Priority.BULK: 1.0}
"""Of two flows that both wait, one is served as much more as its weight is larger; neither starves."""


CHARGE: Final = """
    queue AS (
        INSERT INTO queues (model) VALUES (:model) ON CONFLICT DO NOTHING
    ), reached AS (
        -- a queue that is made just now is not seen yet: it begins at 0
        SELECT coalesce((SELECT floor FROM queues WHERE model = :model), 0) AS floor
    ), charged AS (
        INSERT INTO flows (model, tenant, priority, clock)
        SELECT :model, :tenant, :priority, floor + :charged FROM reached, allowed
        ON CONFLICT (model, tenant, priority) DO UPDATE
        SET clock = greatest(flows.clock, (SELECT floor FROM reached)) + :charged
        RETURNING clock
    )
"""
"""Of a statement, what moves the clock of a flow on by `charged`, if `allowed` has a row.

To be committed alone, before the job is stored: a clock that stayed locked as long as a large submit lasts
would hold up the flow's other submits.
"""


@dataclass(frozen=True, slots=True)
class FlowKey:
    """What names a flow."""

    model: str
    tenant: str
    priority: Priority


def charge_of(flow: FlowKey, cost: float) -> dict[str, Any]:
    """What a flow is charged with for work that costs so much (GFLOP): the parameters of CHARGE."""
    return {
        "model": flow.model,
        "tenant": flow.tenant,
        "priority": flow.priority,
        "charged": cost / WEIGHTS[flow.priority],
    }


def refund(session: Session, flow: FlowKey, cost: float) -> None:
    """Give back what was charged for work that never ran; to be committed alone, like a charge."""
    floor = select(Queue.floor).where(Queue.model == flow.model).scalar_subquery()
    session.execute(
        update(Flow)
        .where(Flow.model == flow.model, Flow.tenant == flow.tenant, Flow.priority == flow.priority)
        .values(clock=func.greatest(Flow.clock - cost / WEIGHTS[flow.priority], floor))
    )


def flow_of(job: Job) -> FlowKey:
    """The flow that a job belongs to."""
    return FlowKey(job.model, job.tenant, Priority(job.priority))
