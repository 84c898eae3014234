"""What a worker writes of itself."""

import socket
import uuid
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.types import WorkerState
from models.worker import Worker


def register(session: Session, worker_id: uuid.UUID, *, model: str, device: str | None, dtype: str) -> None:
    """A worker is starting (again): it will load this model.

    Until it is online it keeps the error of its last try, so that one who asks in between learns of it.
    """
    row = {
        "hostname": socket.gethostname(),
        "model": model,
        "state": WorkerState.STARTING,
        "device": device,
        "dtype": dtype,
        "revision": None,
        "seen_at": func.now(),
    }
    session.execute(
        insert(Worker).values(id=worker_id, **row).on_conflict_do_update(index_elements=[Worker.id], set_=row)
    )


def report_online(
    session: Session, worker_id: uuid.UUID, *, device: str, dtype: str, revision: str | None
) -> None:
    """The worker has loaded its checkpoint and takes work."""
    _update(
        session,
        worker_id,
        state=WorkerState.ONLINE,
        device=device,
        dtype=dtype,
        revision=revision,
        error=None,
    )


def report_failed(session: Session, worker_id: uuid.UUID, error: dict[str, Any]) -> None:
    """The worker cannot load its checkpoint: the code and message say why."""
    _update(session, worker_id, state=WorkerState.FAILED, error=error)


def failure_of(worker_id: uuid.UUID) -> Select[dict[str, Any] | None]:
    """The error of a worker that failed since it was registered."""
    return select(Worker.error).where(Worker.id == worker_id, Worker.state == WorkerState.FAILED)


def report_offline(session: Session, worker_id: uuid.UUID) -> None:
    """The worker was told to end; one that failed keeps saying so."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.state != WorkerState.FAILED)
        .values(state=WorkerState.OFFLINE)
    )


def drain(session: Session, worker_id: uuid.UUID) -> bool:
    """Have the worker finish what it holds and claim no more; it stays alive. False when it is not online."""
    drained = (
        update(Worker)
        .where(Worker.id == worker_id, Worker.state.in_((WorkerState.ONLINE, WorkerState.DRAINING)))
        .values(state=WorkerState.DRAINING)
        .returning(Worker.id)
    )
    return session.scalar(drained) is not None


def report_alive(
    session: Session, worker_id: uuid.UUID, seconds_per_gflop: float | None = None
) -> WorkerState | None:
    """The worker's heartbeat, with its measured pace; returns what others may have told it to be."""
    beat = update(Worker).where(Worker.id == worker_id).values(seen_at=func.now()).returning(Worker.state)
    if seconds_per_gflop is not None:
        beat = beat.values(seconds_per_gflop=seconds_per_gflop)
    state = session.scalar(beat)
    return None if state is None else WorkerState(state)


def _update(session: Session, worker_id: uuid.UUID, **values: Any) -> None:
    session.execute(update(Worker).where(Worker.id == worker_id).values(seen_at=func.now(), **values))
