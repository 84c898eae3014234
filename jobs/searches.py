"""What a search needs before anything is compared: by what, and the vector to look for."""

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from jobs import queries
from jobs.deletion import existing
from jobs.errors import (
    InvalidRequestError,
    NotFoundError,
    NotIndexedError,
    NoVectorError,
    QueryFailedError,
    ResultsExpiredError,
    UnknownJobError,
    WrongModelError,
)
from jobs.image_sets import version_of
from models.job import Job
from models.set_vector import SetIndex, SetVector
from models.types import JobType

QUERY_JOB = "/query_job"


def check_version(session: Session, tenant: str, version_id: uuid.UUID) -> None:
    """Refuse what is no version of the tenant's.

    Raises:
        NotFoundError: it is none.
    """
    if session.scalar(version_of(tenant, version_id)) is None:
        raise NotFoundError


def find_index(session: Session, version_id: uuid.UUID, model: str | None) -> SetIndex:
    """What a version is searched by: by this model, or by the only one there is.

    Raises:
        NotIndexedError: it cannot be searched yet.
        WrongModelError: it can, by another model; or by several, and none is named.
    """
    heads = session.scalars(
        select(SetIndex).where(SetIndex.version_id == version_id).order_by(SetIndex.model)
    ).all()
    ready = [head for head in heads if head.indexed_at is not None]
    if not ready:
        raise NotIndexedError(
            "The vectors of this version are being stored: try again in a while." if heads else None
        )
    if model is None:
        if len(ready) > 1:
            raise WrongModelError(f"Name one model: {_names(ready)}.", pointer="/model")
        return ready[0]
    for head in ready:
        if head.model == model:
            return head
    raise WrongModelError(
        f"This version can be searched by {_names(ready)} alone: for another model, summarise a job of that"
        " model over it first.",
        pointer="/model",
    )


def find_query(session: Session, tenant: str, job_id: uuid.UUID) -> Job:
    """The tenant's job whose one embedding is searched for; it may not have ended.

    Raises:
        UnknownJobError: the tenant has no such job.
        JobDeletedError: it was deleted.
        InvalidRequestError: it does not embed one item, or that of an image set.
    """
    job = session.scalar(queries.job_of(tenant, job_id))
    if job is None:
        raise UnknownJobError(pointer=QUERY_JOB)
    existing(job)
    # of a job over a set, the row has no vector
    if job.type != JobType.EMBEDDING or job.total != 1 or job.version_id is not None:
        raise InvalidRequestError(
            "Give a job that embeds one text or one picture, not a set.", pointer=QUERY_JOB
        )
    return job


def vector_of_job(session: Session, job: Job, head: SetIndex) -> NDArray[np.float32]:
    """The embedding [width] that such a job came to, once it has ended.

    Raises:
        WrongModelError: it is not of what the version is searched by.
        QueryFailedError: it came to nothing.
        ResultsExpiredError: it was removed.
    """
    if job.model != head.model:
        raise WrongModelError(f"That job is one of {job.model}, and not of {head.model}.", pointer=QUERY_JOB)
    if job.results_removed_at is not None:
        raise ResultsExpiredError
    result = session.scalar(queries.result_of(job.id, 0))
    if result is None:
        raise QueryFailedError(f"It was not embedded: its job ended as {job.state}.")
    if result.payload is None:
        reason = (result.error or {}).get("message", "")
        raise QueryFailedError(f"It could not be embedded. {reason}".strip())
    if (job.provenance or {}).get("weights_sha256") != head.weights_sha256:
        raise NotIndexedError(
            f"The vectors of this version are of other weights than {head.model} has now: summarise a new job"
            " over it first."
        )
    return np.asarray(result.payload["embedding"], dtype=np.float32)


def vector_of_item(session: Session, head: SetIndex, index: int) -> NDArray[np.float32]:
    """The stored vector [width] of an item.

    Raises:
        NoVectorError: there is none.
    """
    stored = session.scalar(
        select(cast(SetVector.vec, Text)).where(
            SetVector.version_id == head.version_id, SetVector.model == head.model, SetVector.index == index
        )
    )
    if stored is None:
        raise NoVectorError(pointer="/like_index")
    return np.array(stored.strip("[]").split(","), dtype=np.float32)


def _names(heads: Sequence[SetIndex]) -> str:
    return ", ".join(head.model for head in heads)
