"""Jobs over image sets that an analyst is to read: named in a request, checked, and held until the commit."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs import queries
from jobs.errors import (
    IncomparableError,
    JobDeletedError,
    NotEndedError,
    NothingToSummariseError,
    NotOverSetError,
    ResultsExpiredError,
    UnknownJobError,
)
from jobs.image_sets import version_of
from models.job import Job
from models.types import JobType

TRUTH: Final = "same_truth"
WEIGHTS: Final = ("revision", "weights_sha256")
"""Of a job's provenance what tells one model's embeddings from those of another."""


def check_summarisable(session: Session, job: Job, pointer: str | None = None) -> uuid.UUID:
    """The version of a job that says something of a whole set; `pointer` is where the request names it.

    Raises:
        NotOverSetError: it is no lens over an image set.
        NotEndedError: it still runs.
        ResultsExpiredError: its results were removed, or are about to be.
        NothingToSummariseError: nothing of it succeeded.
    """
    if job.type != JobType.LOGIT_LENS or job.version_id is None:
        raise NotOverSetError(pointer=pointer)
    if job.ended_at is None:
        raise NotEndedError("That job has not ended yet: ask again when it is done.", pointer=pointer)
    if not session.scalar(queries.is_kept(job.id)):
        raise ResultsExpiredError(pointer=pointer)
    if job.succeeded == 0:
        raise NothingToSummariseError(pointer=pointer)
    return job.version_id


def hold_named(session: Session, tenant: str, named: Mapping[str, uuid.UUID]) -> list[Job]:
    """The jobs that fields of a request name; held, so that their results cannot go before the commit.

    Raises:
        UnknownJobError, JobDeletedError: the tenant has no such job, or has it no more.
        ResultsExpiredError: the image set that one is over was deleted.
        DomainError: see `check_summarisable`.
    """
    held = {
        job.id: job
        for job in session.scalars(
            # always in the same order, and shared: whoever removes results holds one job at a time
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
    version_id = check_summarisable(session, job, pointer)
    if session.scalar(version_of(tenant, version_id)) is None:
        raise ResultsExpiredError("The image set that job is over was deleted.", pointer=pointer)


def check_other(this: Job, other: Job, same_truth: Mapping[str, str] | None, field: str) -> None:
    """Refuse a comparison with the job that `field` names, unless both can be judged by the same truths.

    Raises:
        IncomparableError: they are one, or over different versions; or they have different labels and
            nothing says which mean the same, or `same_truth` names one that is none of its job.
    """
    _check_apart(this, other, field)
    if this.version_id != other.version_id:
        raise IncomparableError(
            "The jobs are over different versions, and a comparison is of the same images: measure drift.",
            pointer=_at(field),
        )
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


def check_reference(this: Job, reference: Job, field: str) -> None:
    """Refuse to measure drift from the version of the job that `field` names, if that means nothing.

    Raises:
        IncomparableError: they are one, or over one version, or their models differ in their weights.
    """
    _check_apart(this, reference, field)
    if this.version_id == reference.version_id:
        raise IncomparableError(
            "Both jobs are over the same version: drift is measured between two.", pointer=_at(field)
        )
    if _weights(this) != _weights(reference):
        raise IncomparableError(
            "Drift is measured within one model: the two differ in their weights.", pointer=_at(field)
        )


def _check_apart(this: Job, other: Job, field: str) -> None:
    if this.id == other.id:
        raise IncomparableError("Name two different jobs.", pointer=_at(field))


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
