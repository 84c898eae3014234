"""A job cut into units of work, and their rows: many at a time, so that a large job is stored in seconds."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
from sqlalchemy import Integer, Text, Uuid, bindparam, text
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

WORK_COLUMNS: Final = """
    model text, total integer, unit_items integer, start double precision, span double precision,
    item_cost double precision, batch_key text, item_bytes bigint
"""
"""What `work_told` tells, as columns of a relation."""

STORING_WORK: Final = """
    INSERT INTO work (job_id, unit, model, items, vtime, cost, batch_key, item_bytes)
    SELECT job.id, unit, told.model, n, start + unit * span, n * item_cost, batch_key, item_bytes
    FROM job, told, LATERAL (
        SELECT unit, least(unit_items, told.total - unit * unit_items) AS n
        FROM generate_series(0, (told.total - 1) / unit_items) AS unit
    ) AS units
    ORDER BY unit
"""
"""Of a statement, what stores the waiting work of `job`: units of equal size, and what is left in the last.

`told` is the relation of WORK_COLUMNS.
"""

STORE_WORK: Final = text(f"""
    WITH job AS (
        SELECT :job_id AS id
    ), told AS (
        SELECT * FROM jsonb_to_record(CAST(:told AS jsonb)) AS told ({WORK_COLUMNS})
    )
    {STORING_WORK}
""").bindparams(bindparam("job_id", type_=Uuid()))  # noqa: S608 - put together of statements of this code


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
    charge_id: uuid.UUID
    """What its flow was charged with is known by this: it is stored with the job."""
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
    told = orjson.dumps(work_told(job.total, admission)).decode()
    session.execute(STORE_WORK, {"job_id": job.id, "told": told})
    if admission.reservation_id is not None:
        reservations.give_up(session, admission.reservation_id)


def work_told(items: int, admission: Admission) -> dict[str, Any]:
    """What the work of a job of so many items is stored with: WORK_COLUMNS."""
    share = admission.cost(items) / items
    return {
        "model": admission.flow.model,
        "total": items,
        "unit_items": admission.unit_items,
        "start": admission.start,
        "span": admission.unit_items * share / WEIGHTS[admission.flow.priority],
        "item_cost": share,
        "batch_key": admission.batch_key,
        "item_bytes": admission.price.item_bytes,
    }


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
    for units in slices(slices(items, unit_items), UNITS_AT_ONCE):
        lines = {
            "items": b"\n".join(orjson.dumps(unit) for unit in units).decode(),
            "image_ids": "\n".join(_image_ids(unit) for unit in units),
        }
        session.execute(STORE_INPUTS, {"job_id": job_id, "first": first, **lines})
        first += len(units)


def _image_ids(unit: Sequence[Mapping[str, Any]]) -> str:
    return "{" + ",".join(sorted({item["image_id"] for item in unit if "image_id" in item})) + "}"


def slices(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` each, of the last as many as are left."""
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
