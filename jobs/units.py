"""A job cut into units of work, and their rows: many at a time, so that a large job is stored in seconds."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Double, Integer, Text, Uuid, bindparam, text
from sqlalchemy.orm import Session

from jobs.fairness import WEIGHTS, FlowKey
from jobs.pricing import Price
from models.job import Job
from models.types import JobType

ITEMS_AT_ONCE: Final = 16_384

STORE = text("""
    WITH units AS (
        SELECT ordinality - 1 + :first AS unit, value AS items, jsonb_array_length(value) AS n,
               ARRAY(
                   SELECT DISTINCT (item ->> 'image_id')::uuid FROM jsonb_array_elements(value) AS item
                   WHERE item ? 'image_id' ORDER BY 1
               ) AS image_ids
        FROM jsonb_array_elements(CAST(:units AS jsonb)) WITH ORDINALITY
    ), inputs AS (
        INSERT INTO job_inputs (job_id, unit, items, image_ids)
        SELECT :job_id, unit, items, image_ids FROM units
    )
    INSERT INTO work (job_id, unit, model, items, vtime, cost, batch_key, item_bytes)
    SELECT :job_id, unit, :model, n, :start + unit * :span, n * :item_cost, :batch_key, :item_bytes
    FROM units ORDER BY unit
""").bindparams(
    bindparam("job_id", type_=Uuid()),
    bindparam("first", type_=Integer()),
    bindparam("units", type_=Text()),
    bindparam("model", type_=Text()),
    bindparam("start", type_=Double()),
    bindparam("span", type_=Double()),
    bindparam("item_cost", type_=Double()),
    bindparam("batch_key", type_=Text()),
    bindparam("item_bytes", type_=BigInteger()),
)
"""Inputs and work of units that come as one JSON array of arrays of items."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Where a job begins in virtual time, what an item of it costs, and how many make a unit."""

    flow: FlowKey
    start: float
    price: Price
    unit_items: int

    def cost(self, items: int) -> float:
        """The estimate for so many items and the job's labels, in GFLOP: what its flow is charged."""
        return items * self.price.item_gflop + self.price.label_gflop


def store_units(session: Session, job: Job, items: Iterable[Mapping[str, Any]], admission: Admission) -> None:
    """Cut the items into units and store them as inputs and as waiting work.

    A unit's virtual time is the job's start and what the units before it cost.
    """
    share = admission.cost(job.total) / job.total
    known = {
        "job_id": job.id,
        "model": job.model,
        "start": admission.start,
        "span": admission.unit_items * share / WEIGHTS[admission.flow.priority],
        "item_cost": share,
        "batch_key": batch_key(job.tenant, JobType(job.type), job.options),
        "item_bytes": admission.price.item_bytes,
    }
    first = 0
    for units in _slices(_slices(items, admission.unit_items), max(1, ITEMS_AT_ONCE // admission.unit_items)):
        session.execute(STORE, {**known, "first": first, "units": orjson.dumps(units).decode()})
        first += len(units)


def batch_key(tenant: str, type_: JobType, options: Mapping[str, Any]) -> str:
    """What single items must have in common to share a forward pass.

    Of a lens the tenant too: labels are kept apart for each, and a batch has one set of them.
    """
    shared = [type_, options, tenant if type_ is JobType.LOGIT_LENS else None]
    return hashlib.sha256(orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _slices(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
