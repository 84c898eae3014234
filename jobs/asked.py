"""What a job was asked for, read back from the ledger: all but its items, and those by and by."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ARRAY, Integer, Select, any_, literal, select

from jobs.admission import INTERACTIVE_ITEMS
from jobs.errors import NoRequestError
from models.job import Job, JobInput
from models.types import JobType, Priority

SUBMITTED: Final = frozenset({JobType.EMBEDDING, JobType.LOGIT_LENS, JobType.RESCORE})
RESCORED: Final = ("template", "softmax", "uncalibrated")
"""Of a rescore's options those that were asked for; the others are its source's."""


def body_of(job: Job) -> dict[str, Any]:
    """The request but for the pictures or texts of its `input`, with the options resolved.

    What says no more than its absence is left out.

    Raises:
        NoRequestError: the job is an ingestion, a summary or an index, which is asked for in another way.
    """
    if job.type not in SUBMITTED:
        raise NoRequestError
    options = dict(job.options)
    options.pop("version", None)
    body: dict[str, Any] = {"type": job.type, "model": job.model}
    labels = options.pop("labels", None)
    if labels is not None:
        body["labels"] = labels
    if job.type == JobType.RESCORE:
        body["input"] = {"from_job": options["from_job"]}
        options = {name: options[name] for name in RESCORED}
    elif job.version_id is not None:
        body["input"] = {"image_set_version": f"isv_{job.version_id.hex}"}
    body["options"] = options
    if job.priority != (Priority.INTERACTIVE if job.total <= INTERACTIVE_ITEMS else Priority.BULK):
        body["priority"] = job.priority
    spans = {
        "start_within_s": None if job.start_by is None else job.start_by - job.created_at,
        "run_timeout_s": job.run_timeout,
        "result_ttl_s": job.result_ttl,
    }
    body |= {name: round(span.total_seconds()) for name, span in spans.items() if span is not None}
    if job.tags:
        body["tags"] = job.tags
    return body


def units_of(job_id: uuid.UUID) -> Select[int]:
    """The units of a job in the order of their items: not that of their numbers where one was parted."""
    return (
        select(JobInput.unit)
        .where(JobInput.job_id == job_id)
        .order_by(JobInput.items[0]["index"].as_integer())
    )


def items_of(job_id: uuid.UUID, units: Sequence[int]) -> Select[int, list[dict[str, Any]]]:
    """The items of some units, by unit."""
    return select(JobInput.unit, JobInput.items).where(
        JobInput.job_id == job_id, JobInput.unit == any_(literal(list(units), ARRAY(Integer)))
    )
