"""Workers on the wire."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from api.schemas.ids import worker_id
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
    error: WorkerError | None
    started_at: datetime
    seen_at: datetime


class WorkersPage(BaseModel):
    """The workers of the last day, last seen first."""

    items: list[WorkerView]


def view(worker: Worker, seen: bool) -> WorkerView:
    """What the wire shows of a worker; one that fell silent is offline, whatever it said last."""
    state = WorkerState(worker.state)
    silent = state in {WorkerState.ONLINE, WorkerState.STARTING} and not seen
    return WorkerView(
        id=worker_id(worker.id),
        hostname=worker.hostname,
        model=worker.model,
        revision=worker.revision,
        device=worker.device,
        dtype=worker.dtype,
        state=WorkerState.OFFLINE if silent else state,
        error=WorkerError(**worker.error) if worker.error else None,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
    )
