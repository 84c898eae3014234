"""Jobs on the wire: what a poll answers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.ids import endpoint_id, job_id
from models.job import Job
from models.types import ENDED, JobState, Priority

EXPLAINED = frozenset({JobState.PARTIAL, JobState.FAILED, JobState.EXPIRED})
"""Ended in a way that the job's error says the reason of; before that, it may yet be another one."""


class Progress(BaseModel):
    """How far a job is; `succeeded + failed + dropped = total` exactly when it is done."""

    total: int
    succeeded: int
    failed: int
    dropped: int
    fraction: float


class Links(BaseModel):
    """Where to go from here."""

    self: str
    results: str
    cancel: str


class ItemError(BaseModel):
    """Why an item, or the whole job, failed."""

    code: str
    message: str
    retryable: bool


class Obstacle(BaseModel):
    """Why nothing of a job is done at the moment."""

    code: str
    message: str


class Webhook(BaseModel):
    """Where the end of a job is told."""

    endpoint_id: str


class JobView(BaseModel):
    """A job as a poll sees it; `done` says whether it ended, so that no client lists states."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    type: str
    state: JobState
    done: bool
    model: str
    priority: Priority
    workers_online: int = Field(description="Workers of this model that are loaded and alive.")
    waiting_for: Obstacle | None = Field(
        description="Where no worker of its model is there: why the last one could not load, or that none is."
    )
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(
        description="When its results are removed; null while it runs, or where they are kept for ever."
    )
    error: ItemError | None = Field(
        description="That its time was over (`start-deadline`, `run-timeout`); or, on a job in which nothing"
        " succeeded, why the first item failed."
    )
    provenance: dict[str, Any] | None = Field(description="What computed the results.")
    webhook: Webhook | None = Field(description="Where its end is told; null where nobody asked for that.")
    links: Links


def view(job: Job, workers_online: int, load_failure: dict[str, Any] | None = None) -> JobView:
    """What the wire shows of a job; `load_failure` is that of the last worker of its model."""
    wire_id = job_id(job.id)
    settled = job.succeeded + job.failed + job.dropped
    return JobView(
        id=wire_id,
        type=job.type,
        state=JobState(job.state),
        done=job.state in ENDED,
        model=job.model,
        priority=Priority(job.priority),
        workers_online=workers_online,
        waiting_for=None if workers_online or job.state in ENDED else _obstacle(job.model, load_failure),
        progress=Progress(
            total=job.total,
            succeeded=job.succeeded,
            failed=job.failed,
            dropped=job.dropped,
            fraction=round(settled / job.total, 6),
        ),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        expires_at=job.expires_at,
        error=ItemError(**job.error) if job.error and job.state in EXPLAINED else None,
        provenance=job.provenance,
        webhook=Webhook(endpoint_id=endpoint_id(job.webhook_endpoint_id))
        if job.webhook_endpoint_id
        else None,
        links=Links(
            self=f"/v1/jobs/{wire_id}",
            results=f"/v1/jobs/{wire_id}/results",
            cancel=f"/v1/jobs/{wire_id}/cancel",
        ),
    )


def _obstacle(model: str, load_failure: dict[str, Any] | None) -> Obstacle:
    if load_failure is not None:
        return Obstacle(**load_failure)
    return Obstacle(
        code="no-worker", message=f"No worker is online: start one with `lensqueue worker --model {model}`."
    )
