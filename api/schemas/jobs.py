"""Jobs on the wire: what a poll answers, and a list."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.ids import job_id
from jobs.outlook import POSITIONS, Outlook
from models.job import Job
from models.types import ENDED, JobState, Priority

EXPLAINED = frozenset({JobState.PARTIAL, JobState.FAILED, JobState.EXPIRED})
"""Ended in a way that the job's error says the reason of; before that, it may yet be another one."""
QUEUE_PAUSED: Final = "queue-paused"


class Progress(BaseModel):
    """How far a job is; `succeeded + failed + dropped = total` exactly when it is done."""

    total: int
    succeeded: int
    failed: int
    dropped: int
    fraction: float
    eta_s: int | None = Field(
        description="Estimated seconds until all of it is done, by the measured rate and what waits before"
        " it; null when it is not known."
    )
    queue_position: int | None = Field(
        description="1 when it is claimed next: the units of work, of any job, up to its first; null once it"
        f" was begun, and while {POSITIONS} or more come before it."
    )


class Links(BaseModel):
    """Where to go from here."""

    self: str
    results: str
    events: str
    request: str
    cancel: str
    retry: str


class ItemError(BaseModel):
    """Why an item, or the whole job, failed."""

    code: str
    message: str
    retryable: bool


class Obstacle(BaseModel):
    """Why nothing of a job is done at the moment."""

    code: str
    message: str


class JobView(BaseModel):
    """A job as a poll sees it; `done` says whether it ended, so that no client lists states."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    type: str
    state: JobState
    done: bool
    attempt: int = Field(description="1; of a job that tries another one again, 1 more than that one's.")
    retry_of: str | None = Field(description="The job whose items it tries again.")
    model: str
    priority: Priority
    tags: dict[str, str]
    workers_online: int = Field(description="Workers of this model that are loaded and alive.")
    waiting_for: Obstacle | None = Field(
        description="That the queue of its model is paused (`queue-paused`); or, where no worker of it is"
        " there, why the last one could not load, or that none is (`no-worker`)."
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
    provenance: dict[str, Any] | None = Field(
        description="What computed the results; in lists, where it may outweigh all the rest, always null."
    )
    links: Links


class JobsPage(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobView]
    next_page_token: str | None = Field(description="Give it as `page_token`; null on the last page.")


def view(job: Job, outlook: Outlook, *, listed: bool = False) -> JobView:
    """What the wire shows of a job, in a list without its provenance."""
    wire_id = job_id(job.id)
    settled = job.succeeded + job.failed + job.dropped
    return JobView(
        id=wire_id,
        type=job.type,
        state=JobState(job.state),
        done=job.state in ENDED,
        attempt=job.attempt,
        retry_of=None if job.retry_of is None else job_id(job.retry_of),
        model=job.model,
        priority=Priority(job.priority),
        tags=job.tags,
        workers_online=outlook.workers_online,
        waiting_for=None if job.state in ENDED else _obstacle(job.model, outlook),
        progress=Progress(
            total=job.total,
            succeeded=job.succeeded,
            failed=job.failed,
            dropped=job.dropped,
            fraction=round(settled / job.total, 6),
            eta_s=outlook.eta_s,
            queue_position=outlook.queue_position,
        ),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        expires_at=job.expires_at,
        error=ItemError(**job.error) if job.error and job.state in EXPLAINED else None,
        provenance=None if listed else job.provenance,
        links=Links(
            self=f"/v1/jobs/{wire_id}",
            results=f"/v1/jobs/{wire_id}/results",
            events=f"/v1/jobs/{wire_id}/events",
            request=f"/v1/jobs/{wire_id}/request",
            cancel=f"/v1/jobs/{wire_id}/cancel",
            retry=f"/v1/jobs/{wire_id}/retry",
        ),
    )


def _obstacle(model: str, outlook: Outlook) -> Obstacle | None:
    if outlook.paused:
        return Obstacle(
            code=QUEUE_PAUSED, message="The queue of its model is paused; it waits until that goes on."
        )
    if outlook.workers_online:
        return None
    if outlook.load_failure is not None:
        return Obstacle(**outlook.load_failure)
    return Obstacle(
        code="no-worker", message=f"No worker is online: start one with `lensqueue worker --model {model}`."
    )
