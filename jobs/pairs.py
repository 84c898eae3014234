"""Comparisons and drifts: asked for over two jobs on image sets that have ended, made by an analyst."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.analysis_jobs import Wanted, store_job
from jobs.errors import IncomparableError, JobDeletedError, ResultsExpiredError, UnknownJobError
from jobs.image_sets import version_of
from jobs.summaries import GFLOP_PER_ITEM, SummaryTerms, check_summarisable
from models.job import Job
from models.types import JobType

THIS: Final = "job_id"
OTHER: Final = "other_job_id"
REFERENCE: Final = "reference_job_id"
TRUTH: Final = "same_truth"
WEIGHTS: Final = ("revision", "weights_sha256")
"""Of a job's provenance what tells one model's embeddings from those of another."""


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
        UnknownJobError, JobDeletedError: the tenant has no such job, or has it no more.
        NotOverSetError, NotEndedError, ResultsExpiredError, NothingToSummariseError: see `jobs.summaries`.
        IncomparableError: they are over different versions, or are one, or nothing says which labels mean
            the same.
    """
    this, beside = _hold_two(session, tenant, {THIS: of, OTHER: other})
    if this.version_id != beside.version_id:
        raise IncomparableError(
            "The jobs are over different versions, and a comparison is of the same images: measure drift.",
            pointer=_at(OTHER),
        )
    check_truth(this, beside, same_truth)
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
        UnknownJobError, JobDeletedError: the tenant has no such job, or has it no more.
        NotOverSetError, NotEndedError, ResultsExpiredError, NothingToSummariseError: see `jobs.summaries`.
        IncomparableError: they are over one version, or are one, or their models differ in their weights.
    """
    this, before = _hold_two(session, tenant, {THIS: of, REFERENCE: reference})
    check_reference(this, before)
    return _store(session, JobType.DRIFT, (this, before), terms, {"reference_job_id": str(before.id)}, job_id)


def check_truth(this: Job, other: Job, same_truth: Mapping[str, str] | None) -> None:
    """Refuse a comparison of different labels unless it is said which of them mean the same.

    Raises:
        IncomparableError: nothing says so, or `same_truth` names a label that is none of its job.
    """
    names, others = _names(this), _names(other)
    if same_truth is None:
        if set(names) != set(others):
            raise IncomparableError(
                "The jobs have different labels: say in `same_truth` which of them mean the same.",
                pointer=_at(TRUTH),
            )
        return
    for theirs, ours in same_truth.items():
        for name, known, whose in ((theirs, others, "the other job's"), (ours, names, "the job's")):
            if name not in known:
                raise IncomparableError(f"{name!r} is none of {whose} labels.", pointer=_at(TRUTH, theirs))


def check_reference(this: Job, reference: Job) -> None:
    """Refuse a reference over the same version, or of another model.

    Raises:
        IncomparableError: it is one.
    """
    if this.version_id == reference.version_id:
        raise IncomparableError(
            "Both jobs are over the same version: drift is measured between two.", pointer=_at(REFERENCE)
        )
    if _weights(this) != _weights(reference):
        raise IncomparableError(
            "Drift is measured within one model: the two differ in their weights.", pointer=_at(REFERENCE)
        )


def _hold_two(session: Session, tenant: str, named: Mapping[str, uuid.UUID]) -> list[Job]:
    """The two jobs, as they are named; held, so that their results cannot go before this is committed."""
    if len(set(named.values())) < len(named):
        raise IncomparableError("Name two different jobs.", pointer=_at(list(named)[-1]))
    held = {
        job.id: job
        for job in session.scalars(
            # always in the same order: nobody who holds two of them waits for another who does
            select(Job)
            .where(Job.tenant == tenant, Job.id.in_(named.values()))
            .order_by(Job.id)
            .with_for_update(read=True)
        )
    }
    for name, id_ in named.items():
        _check(session, tenant, held.get(id_), _at(name))
    return [held[id_] for id_ in named.values()]


def _check(session: Session, tenant: str, job: Job | None, pointer: str) -> None:
    if job is None:
        raise UnknownJobError(pointer=pointer)
    if job.deleted_at is not None:
        raise JobDeletedError(pointer=pointer)
    version_id = check_summarisable(job, pointer)
    if session.scalar(version_of(tenant, version_id)) is None:
        raise ResultsExpiredError("The image set that job is over was deleted.", pointer=pointer)


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


def _names(job: Job) -> dict[str, None]:
    """The names of a job's labels, in their order."""
    return dict.fromkeys(
        label if isinstance(label, str) else label["name"] for label in job.options["labels"]
    )


def _weights(job: Job) -> tuple[Any, ...]:
    told = job.provenance or {}
    return (job.model, *(told.get(name) for name in WEIGHTS))


def _at(*path: str) -> str:
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)
