"""What a worker writes of itself."""

import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.errors import NotFoundError, WorkerNotOnlineError
from models.types import WorkerState
from models.worker import Worker


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a worker has measured of itself, see `models.worker`; None where it has not."""

    seconds_per_gflop: float | None = None
    batch_fill: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None


NOTHING_MEASURED: Final = Vitals()


def register(
    session: Session,
    worker_id: uuid.UUID,
    *,
    model: str,
    device: str | None,
    dtype: str,
    draining_ends: bool = True,
) -> None:
    """A worker is starting (again): it will load this model.

    Until it is online it keeps the error of its last try, so that one who asks in between learns of it. When
    only its child starts again (`draining_ends` false), it goes on to drain if it was told to, and to count
    what it finished since its own start.
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
    again = (
        row | {"started_at": func.now(), "finished": 0}
        if draining_ends
        else row | {"state": _unless_draining(WorkerState.STARTING)}
    )
    session.execute(
        insert(Worker)
        .values(id=worker_id, **row)
        .on_conflict_do_update(index_elements=[Worker.id], set_=again)
    )


def report_online(
    session: Session, worker_id: uuid.UUID, *, device: str, dtype: str, revision: str | None
) -> None:
    """The worker has loaded its checkpoint and takes work."""
    _update(
        session,
        worker_id,
        state=_unless_draining(WorkerState.ONLINE),
        device=device,
        dtype=dtype,
        revision=revision,
        error=None,
    )


def report_failed(session: Session, worker_id: uuid.UUID, error: dict[str, Any]) -> None:
    """The worker cannot load its checkpoint: the code and message say why."""
    _update(session, worker_id, state=WorkerState.FAILED, error=error)


def report_death(
    session: Session,
    worker_id: uuid.UUID,
    reason: str,
    *,
    crashed: bool = False,
    running: uuid.UUID | None = None,
) -> int:
    """The process that held the worker's model has died: what it held waits again at once.

    `crashed` when it died of a fatal signal: then a canary is to tell whether the work under the `running`
    lease is to blame. Returns how many leases it held.
    """
    told = {"worker_id": worker_id, "reason": reason, "crashed": crashed, "running": running}
    return len(session.execute(transitions.REPORT_CRASH, told).all())


def judge_crashes(session: Session, worker_id: uuid.UUID, *, healthy: bool) -> None:
    """The worker has run its canary: the work of its crashes is to blame exactly when it is healthy."""
    session.execute(transitions.JUDGE_CRASHES, {"worker_id": worker_id, "guilty": healthy})


def state_of(worker_id: uuid.UUID) -> Select[str]:
    """What the worker last said that it is, or was told to be."""
    return select(Worker.state).where(Worker.id == worker_id)


def presence_of(worker_id: uuid.UUID, silence: timedelta) -> Select[str, bool]:
    """What a worker is, and whether it should have been heard of since: one that is starting need not."""
    is_silent = and_(
        Worker.state.in_((WorkerState.ONLINE, WorkerState.DRAINING)), Worker.seen_at < func.now() - silence
    )
    return select(Worker.state, is_silent).where(Worker.id == worker_id)


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


def drain_known(session: Session, worker_id: uuid.UUID) -> None:
    """Drain a worker that somebody names.

    Raises:
        NotFoundError: there is no such worker.
        WorkerNotOnlineError: there is nothing to drain.
    """
    if drain(session, worker_id):
        return
    if session.scalar(state_of(worker_id)) is None:
        raise NotFoundError
    raise WorkerNotOnlineError


def drain_model(session: Session, model: str) -> int:
    """Drain all workers of a model that are online; returns how many were not draining yet."""
    online = (
        select(Worker.id)
        .where(Worker.model == model, Worker.state == WorkerState.ONLINE)
        # everybody in one order
        .order_by(Worker.id)
        .with_for_update()
    )
    drained = update(Worker).where(Worker.id.in_(online)).values(state=WorkerState.DRAINING)
    return len(session.execute(drained.returning(Worker.id)).all())


def report_alive(
    session: Session, worker_id: uuid.UUID, vitals: Vitals = NOTHING_MEASURED
) -> WorkerState | None:
    """The worker's heartbeat, with what it measured; returns what others may have told it to be.

    Its pace stands until there is a newer one; how full its batches are, and its memory, are of this moment.
    """
    measured = asdict(vitals)
    if vitals.seconds_per_gflop is None:
        del measured["seconds_per_gflop"]
    beat = update(Worker).where(Worker.id == worker_id).values(seen_at=func.now(), **measured)
    state = session.scalar(beat.returning(Worker.state))
    return None if state is None else WorkerState(state)


def _unless_draining(state: WorkerState) -> ColumnElement[str]:
    return case((Worker.state == WorkerState.DRAINING, Worker.state), else_=literal(state.value))


def _update(session: Session, worker_id: uuid.UUID, **values: Any) -> None:
    session.execute(update(Worker).where(Worker.id == worker_id).values(seen_at=func.now(), **values))
