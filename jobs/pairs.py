"""Comparisons and drifts: asked for over two jobs on image sets that have ended, made by an analyst."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

from jobs.analysis_jobs import Wanted, store_job
from jobs.set_jobs import check_other, check_reference, hold_named
from jobs.summaries import GFLOP_PER_ITEM, SummaryTerms
from models.job import Job
from models.types import JobType

THIS: Final = "job_id"
OTHER: Final = "other_job_id"
REFERENCE: Final = "reference_job_id"


def submit_comparison(
    session: Session,
    tenant: str,
    of: uuid.UUID,
    other: uuid.UUID,
    terms: SummaryTerms,
    *,
    same_truth: Mapping[str, str] | None = None,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store a job that sets two jobs over one version side by side; the caller commits, then invites.

    `same_truth` names for labels of `other` those of the job that mean the same.

    Raises:
        DomainError: one of them cannot be read, see `jobs.set_jobs.hold_named`.
        IncomparableError: they cannot be set side by side, see `jobs.set_jobs.check_other`.
    """
    this, beside = hold_named(session, tenant, {THIS: of, OTHER: other})
    check_other(this, beside, same_truth, OTHER)
    options = {"other_job_id": str(beside.id), "same_truth": None if same_truth is None else dict(same_truth)}
    return _store(session, JobType.COMPARISON, (this, beside), terms, options, job_id)


def submit_drift(
    session: Session,
    tenant: str,
    of: uuid.UUID,
    reference: uuid.UUID,
    terms: SummaryTerms,
    *,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Store a job that measures how far a version lies from another one; the caller commits, then invites.

    Both are named by jobs of one model over them.

    Raises:
        DomainError: one of them cannot be read, see `jobs.set_jobs.hold_named`.
        IncomparableError: drift between them means nothing, see `jobs.set_jobs.check_reference`.
    """
    this, before = hold_named(session, tenant, {THIS: of, REFERENCE: reference})
    check_reference(this, before, REFERENCE)
    return _store(session, JobType.DRIFT, (this, before), terms, {"reference_job_id": str(before.id)}, job_id)


def _store(
    session: Session,
    type_: JobType,
    pair: tuple[Job, Job],
    terms: SummaryTerms,
    options: Mapping[str, Any],
    job_id: uuid.UUID | None,
) -> Job:
    this, other = pair
    assert this.version_id is not None
    wanted = Wanted(
        type=type_,
        items=[{"kind": "job", "custom_id": f"job_{this.id.hex}"}],
        options={"job_id": str(this.id), **options, "seed": terms.seed},
        item_gflop=(this.total + other.total) * GFLOP_PER_ITEM,
        version_id=this.version_id,
        tags=terms.tags,
        key_id=terms.key_id,
    )
    return store_job(session, this.tenant, wanted, job_id=job_id)
