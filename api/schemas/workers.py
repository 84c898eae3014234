"""Workers on the wire."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.ids import worker_id
from jobs.fleet import SPEAKING
from models.types import WorkerState
from models.worker import Worker


class WorkerError(BaseModel):
    """Why a worker could not load its checkpoint."""

    code: str
    message: str


class WorkerView(BaseModel):
    """A worker as it last spoke of itself."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    hostname: str
    model: str
    revision: str | None
    device: str | None
    dtype: str | None
    state: WorkerState
    gflop_per_s: float | None = Field(
        description="Measured in the last minutes; null until it ran something."
    )
    batch_fill: float | None = Field(
        description="Of the places that its batches of the last minutes had, the share that was taken."
    )
    memory_bytes: int | None = Field(
        description="Taken of its GPU, by whomever; without one, of the machine by the worker's own process."
    )
    memory_limit_bytes: int | None = Field(description="What there is of that memory.")
    finished_items: int = Field(description="Since it was started; counted with its heartbeat.")
    error: WorkerError | None
    started_at: datetime
    seen_at: datetime


class WorkersPage(BaseModel):
    """The workers of the last day, last seen first."""

    items: list[WorkerView]


def view(worker: Worker, seen: bool) -> WorkerView:
    """What the wire shows of a worker; one that fell silent is offline, whatever it said last."""
    state = WorkerState(worker.state)
    silent = state in SPEAKING and not seen
    return WorkerView(
        id=worker_id(worker.id),
        hostname=worker.hostname,
        model=worker.model,
        revision=worker.revision,
        device=worker.device,
        dtype=worker.dtype,
        state=WorkerState.OFFLINE if silent else state,
        gflop_per_s=rate(worker.seconds_per_gflop),
        batch_fill=None if worker.batch_fill is None else round(worker.batch_fill, 3),
        memory_bytes=worker.memory_bytes,
        memory_limit_bytes=worker.memory_limit_bytes,
        finished_items=worker.finished,
        error=WorkerError(**worker.error) if worker.error else None,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
    )


def rate(seconds_per_gflop: float | None) -> float | None:
    """What was measured, the way that more is better: GFLOP in a second."""
    return round(1 / seconds_per_gflop, 3) if seconds_per_gflop else None
