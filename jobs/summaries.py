"""Summaries: asked for over a job on an image set that has ended, made by an analyst as a job of its own."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from jobs import queries
from jobs.analysis_jobs import Wanted, store_job
from jobs.deletion import existing
from jobs.set_jobs import check_other, check_reference, check_summarisable, hold_named
from models.job import Job
from models.types import JobType

GFLOP_PER_ITEM: Final = 0.1
"""Of a summarised item: half a millisecond of a worker that has measured nothing yet."""
OTHER: Final = "compare_with"
REFERENCE: Final = "drift_from"


@dataclass(frozen=True, slots=True)
class SummaryTerms:
    """What is said beside the job that is to be summarised, or the two that are to be set side by side."""

    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    key_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What a summary is to set its job beside: another one over the version, one over another version."""

    other: uuid.UUID | None = None
    same_truth: Mapping[str, str] | None = None
    reference: uuid.UUID | None = None


ALONE: Final = Beside()


def submit_summary(
    session: Session,
    tenant: str,
    of: uuid.UUID,
    terms: SummaryTerms,
    *,
    beside: Beside = ALONE,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store a job that summarises another one; the caller commits, then invites the workers of `analysis`.

    Raises:
        NotFoundError, JobDeletedError: the tenant has no such job, or has it no more.
        NotOverSetError: it is no lens over an image set.
        NotEndedError: it still runs.
        ResultsExpiredError: its results were removed, or are about to be.
        NothingToSummariseError: nothing of it succeeded.
        DomainError: likewise of a job beside it, see `jobs.set_jobs`, where the request names that.
    """
    # held: its results cannot be removed before this is committed
    job = existing(session.scalar(queries.whole_job_of(tenant, of).with_for_update(read=True)))
    version_id = check_summarisable(session, job)
    others, told = _hold_beside(session, job, beside)
    wanted = Wanted(
        type=JobType.SUMMARY,
        items=[{"kind": "job", "custom_id": f"job_{job.id.hex}"}],
        options={"job_id": str(job.id), "seed": terms.seed, **told},
        item_gflop=sum(each.total for each in (job, *others)) * GFLOP_PER_ITEM,
        version_id=version_id,
        tags=terms.tags,
        key_id=terms.key_id,
    )
    return store_job(session, tenant, wanted, job_id=job_id)


def _hold_beside(session: Session, job: Job, beside: Beside) -> tuple[list[Job], dict[str, Any]]:
    """The jobs beside it, checked and held, and what the worker is told of them."""
    given = {OTHER: beside.other, REFERENCE: beside.reference}
    named = {name: id_ for name, id_ in given.items() if id_ is not None}
    held = dict(zip(named, hold_named(session, job.tenant, named), strict=True))
    if OTHER in held:
        check_other(job, held[OTHER], beside.same_truth, OTHER)
    if REFERENCE in held:
        check_reference(job, held[REFERENCE], REFERENCE)
    told: dict[str, Any] = {name: str(each.id) for name, each in held.items()}
    if OTHER in held and beside.same_truth is not None:
        told["same_truth"] = dict(beside.same_truth)
    return list(held.values()), told
