"""What is shown of a job to whoever looks at it: its items, every try at them, its retries; statements only.

Each page is read by the primary key of its table, or by an index of the failures alone, behind a place.
"""

import uuid
from typing import Any, Final

from sqlalchemy import Integer, Select, Uuid, bindparam, case, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import array

from jobs.maps import KINDS
from models.job import Job, JobInput, Result
from models.types import ItemState
from models.work import Attempt
from models.worker import Worker

TEXT_SHOWN: Final = 120
RETRIES_SHOWN: Final = 20
FAILURES_LOOKED_AT: Final = 1_000

OPTIONS: Final = text("""
    SELECT options - 'labels' AS options, coalesce(jsonb_array_length(options -> 'labels'), 0) AS labels,
           ARRAY(
               SELECT coalesce(label ->> 'name', label #>> '{}')
               FROM jsonb_array_elements(options -> 'labels') WITH ORDINALITY AS given (label, place)
               ORDER BY place
               LIMIT :limit
           ) AS names
    FROM jobs
    WHERE id = :job_id
""").bindparams(bindparam("job_id", type_=Uuid()), bindparam("limit", type_=Integer()))
"""A job's options but for its labels, how many these are, and the names of the first."""


def label_count(job_id: uuid.UUID) -> Select[int]:
    """How many labels a job has; its options, which these may fill, stay where they are."""
    return select(func.coalesce(func.jsonb_array_length(Job.options["labels"]), 0)).where(Job.id == job_id)


def may_succeed(job_id: uuid.UUID) -> Select[bool]:
    """Whether any of a job's failures, of the first of many, has a cause that passes."""
    failures = (
        select(Result.error["retryable"].as_boolean().label("retryable"))
        .where(Result.job_id == job_id, Result.state == ItemState.FAILED)
        .order_by(Result.index)
        .limit(FAILURES_LOOKED_AT + 1)
        .subquery()
    )
    # more than are looked at may all be of another kind
    told = func.bool_or(failures.c.retryable).is_(True) | (func.count() > FAILURES_LOOKED_AT)
    return select(told).select_from(failures)


def items_page(
    job_id: uuid.UUID, *, after: int, failed: bool, limit: int
) -> Select[
    int, str, str, str | None, str | None, str | None, bool, dict[str, Any] | None, dict[str, Any] | None
]:
    """Items with a result by index behind `after` (-1 at first), or those that failed: one more than `limit`.

    Of each its index, state, kind, custom_id, text, top label, whether there is a picture of it, its error;
    of a source that was ingested, the counts.
    """
    page = (
        select(
            Result.index,
            Result.state,
            Result.item["kind"].astext.label("kind"),
            Result.item["custom_id"].astext.label("custom_id"),
            func.left(Result.item["text"].astext, TEXT_SHOWN).label("text"),
            Result.payload["top"]["label"].astext.label("top_label"),
            func.coalesce(Result.payload.has_any(array(list(KINDS))), False).label("pictured"),
            Result.error,
            case((Result.item["kind"].astext == "source", Result.payload)).label("counts"),
        )
        .where(Result.job_id == job_id, Result.index > after)
        .order_by(Result.index)
        .limit(limit + 1)
    )
    return page.where(Result.state == ItemState.FAILED) if failed else page


def attempts_page(
    job_id: uuid.UUID, *, after: tuple[int, int], limit: int
) -> Select[Attempt, str | None, int | None, int | None, int]:
    """Every try at a job's units, in their order, behind a unit and a try: one more than `limit`.

    With the name of its worker's machine, the first item of the unit and how many it has, if known, and how
    many of these have failed.
    """
    first = JobInput.items[0]["index"].as_integer()
    items = func.jsonb_array_length(JobInput.items)
    failed = (
        select(func.count())
        .where(
            Result.job_id == Attempt.job_id,
            Result.index >= first,
            Result.index < first + items,
            Result.state == ItemState.FAILED,
        )
        .correlate(Attempt, JobInput)
        .scalar_subquery()
    )
    return (
        select(Attempt, Worker.hostname, first.label("first"), items.label("items"), failed.label("failed"))
        .outerjoin(Worker, Worker.id == Attempt.worker_id)
        .outerjoin(JobInput, (JobInput.job_id == Attempt.job_id) & (JobInput.unit == Attempt.unit))
        .where(Attempt.job_id == job_id, tuple_(Attempt.unit, Attempt.attempt) > after)
        .order_by(Attempt.unit, Attempt.attempt)
        .limit(limit + 1)
    )


def retries_of(tenant: str, job_id: uuid.UUID) -> Select[uuid.UUID, str]:
    """The jobs that try this one again, with their states: the first few."""
    return (
        select(Job.id, Job.state)
        .where(Job.retry_of == job_id, Job.tenant == tenant, Job.deleted_at.is_(None))
        .order_by(Job.id)
        .limit(RETRIES_SHOWN)
    )
