"""A job cut into units of work, and their rows: many at a time, so that a large job is stored in seconds."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Double, Integer, Text, Uuid, bindparam, text
from sqlalchemy.orm import Session

from jobs import reservations
from jobs.fairness import WEIGHTS, FlowKey
from jobs.pricing import Price
from models.job import Job
from models.types import JobType

UNITS_AT_ONCE: Final = 1_024

STORE_INPUTS = text(r"""
    INSERT INTO job_inputs (job_id, unit, items, image_ids)
    SELECT :job_id, :first + ordinality - 1, CAST(items AS jsonb), CAST(image_ids AS uuid[])
    FROM ROWS FROM (
        string_to_table(:items, E'\n'), string_to_table(:image_ids, E'\n')
    ) WITH ORDINALITY AS unit (items, image_ids, ordinality)
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("first", type_=Integer()),
    bindparam("items", type_=Text()),
    bindparam("image_ids", type_=Text()),
)
"""The items of units and their pictures, a line a unit: JSON has no line breaks of its own.

Of what both drivers can do the fastest: an array of texts costs five times as much, most of it in quoting.
"""

STORE_WORK = text("""
    INSERT INTO work (job_id, unit, model, items, vtime, cost, batch_key, item_bytes)
    SELECT :job_id, unit, :model, n, :start + unit * :span, n * :item_cost, :batch_key, :item_bytes
    FROM (
        SELECT unit, least(:unit_items, :total - unit * :unit_items) AS n
        FROM generate_series(0, (:total - 1) / :unit_items) AS unit
    ) AS units
    ORDER BY unit
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("model", type_=Text()),
    bindparam("total", type_=Integer()),
    bindparam("unit_items", type_=Integer()),
    bindparam("start", type_=Double()),
    bindparam("span", type_=Double()),
    bindparam("item_cost", type_=Double()),
    bindparam("batch_key", type_=Text()),
    bindparam("item_bytes", type_=BigInteger()),
)
"""The waiting work of a job: units of equal size, and what is left in the last one."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Where a job begins in virtual time, what an item of it costs, and how many make a unit.

    Single items of one `batch_key` may share a forward pass.
    """

    flow: FlowKey
    start: float
    price: Price
    unit_items: int
    batch_key: str
    reservation_id: uuid.UUID | None = None
    """The room that is set aside for it until its work is stored, see `jobs.reservations`."""

    def cost(self, items: int) -> float:
        """The estimate for so many items and the job's labels, in GFLOP: what its flow is charged."""
        return items * self.price.item_gflop + self.price.label_gflop

    def end(self, items: int) -> float:
        """Where the flow's clock stands once it is charged for so many items."""
        return self.start + self.cost(items) / WEIGHTS[self.flow.priority]


def store_units(session: Session, job: Job, items: Iterable[Mapping[str, Any]], admission: Admission) -> None:
    """Cut the items into units and store them as inputs and as waiting work.

    A unit's virtual time is the job's start and what the units before it cost.
    """
    _store_inputs(session, job.id, items, admission.unit_items)
    store_work(session, job, admission)


def store_work(session: Session, job: Job, admission: Admission) -> None:
    """Store the waiting work of a job whose inputs are stored; from now on it counts itself."""
    share = admission.cost(job.total) / job.total
    session.execute(
        STORE_WORK,
        {
            "job_id": job.id,
            "model": job.model,
            "total": job.total,
            "unit_items": admission.unit_items,
            "start": admission.start,
            "span": admission.unit_items * share / WEIGHTS[admission.flow.priority],
            "item_cost": share,
            "batch_key": admission.batch_key,
            "item_bytes": admission.price.item_bytes,
        },
    )
    if admission.reservation_id is not None:
        reservations.give_up(session, admission.reservation_id)


def batch_key(tenant: str, type_: JobType, kind: str, options: Mapping[str, Any]) -> str:
    """What single items must have in common to share a forward pass.

    Where there are labels the tenant too: they are kept apart for each, and a batch has one set of them.
    """
    shared = [type_, kind, options, None if type_ is JobType.EMBEDDING else tenant]
    return hashlib.sha256(orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _store_inputs(
    session: Session, job_id: uuid.UUID, items: Iterable[Mapping[str, Any]], unit_items: int
) -> None:
    first = 0
    for units in _slices(_slices(items, unit_items), UNITS_AT_ONCE):
        lines = {
            "items": b"\n".join(orjson.dumps(unit) for unit in units).decode(),
            "image_ids": "\n".join(_image_ids(unit) for unit in units),
        }
        session.execute(STORE_INPUTS, {"job_id": job_id, "first": first, **lines})
        first += len(units)


def _image_ids(unit: Sequence[Mapping[str, Any]]) -> str:
    return "{" + ",".join(sorted({item["image_id"] for item in unit if "image_id" in item})) + "}"


def _slices(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
