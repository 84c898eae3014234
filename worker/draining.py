"""In the parent: a worker that is to drain takes no more invitations, so that they go to others."""

import threading
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs import workers
from jobs.broker import queue_of
from models.types import WorkerState
from worker.settings import WorkerSettings

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0


def watch_for_draining(consumer: Any, sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    """Start a thread that stops Celery's consumer from taking messages once the worker is to drain."""
    thread = threading.Thread(
        target=_watch, args=(consumer, sessions, settings), name="draining", daemon=True
    )
    thread.start()


def _watch(consumer: Any, sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    pause = threading.Event()
    while not pause.wait(LOOK_SECONDS):
        try:
            with sessions() as session:
                state = session.scalar(workers.state_of(settings.worker_id))
        except SQLAlchemyError:
            # the child's heartbeat says it already
            continue
        if state == WorkerState.DRAINING:
            # the consumer is the main thread's
            consumer.call_soon(consumer.cancel_task_queue, queue_of(settings.model).name)
            log.info("worker.draining")
            return
