"""What the child process of an analyst holds: a worker of the queue `analysis`, without a model."""

from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session, sessionmaker

from jobs import workers
from jobs.blobs import BlobStore
from jobs.errors import DomainError
from models.session import sync_sessions
from worker import metrics
from worker.heartbeat import Heartbeat
from worker.memory import own_memory
from worker.passage import Passage
from worker.running import RunningMark
from worker.runtime import failure, reason_of, register
from worker.settings import WorkerSettings

log = structlog.get_logger()

DEVICE = "cpu"


@dataclass(frozen=True, slots=True)
class Analyst:
    """A worker that is ready."""

    settings: WorkerSettings
    sessions: sessionmaker[Session]
    blobs: BlobStore
    heartbeat: Heartbeat
    running: RunningMark

    def is_to_pause(self, passage: Passage) -> bool:
        """Whether work should that can go on later: the worker is ending, or half of its hard limit over."""
        return self.heartbeat.ending or passage.seconds > self.settings.hard_limit_seconds / 2


_ready: list[Analyst] = []


def current() -> Analyst:
    """The analyst of this process."""
    return _ready[0]


def start(settings: WorkerSettings) -> bool:
    """Report that work is taken from now on; False, with the reason logged and reported, if it cannot."""
    sessions = sync_sessions(settings.database_url)
    if failure(sessions, settings) is not None:
        # the pool starts another child while the worker is ending over the first one's failure
        return False
    register(sessions, settings, draining_ends=False)
    blobs = BlobStore(settings.blobs)
    try:
        blobs.check()
    except DomainError as error:
        reason = reason_of(error)
        with sessions.begin() as session:
            workers.report_failed(session, settings.worker_id, reason)
        log.error("worker.load_failed", model=settings.model, **reason)  # noqa: TRY400 - it says all
        return False
    heartbeat = Heartbeat(
        sessions,
        settings.worker_id,
        every_seconds=settings.lease_seconds / 4,
        stall_seconds=settings.stall_seconds,
    )
    heartbeat.measure = own_memory
    with sessions.begin() as session:
        # there is no canary: whatever brought the last child down is to blame for it
        workers.judge_crashes(session, settings.worker_id, healthy=True)
        workers.report_online(session, settings.worker_id, device=DEVICE, dtype=settings.dtype, revision=None)
    _ready[:] = [Analyst(settings, sessions, blobs, heartbeat, RunningMark(settings.worker_id))]
    metrics.INFO.labels(DEVICE, settings.dtype).set(1)
    log.info("worker.online", model=settings.model, device=DEVICE)
    return True


def stop() -> None:
    """End the heartbeat of this process."""
    for analyst in _ready:
        analyst.heartbeat.stop()
