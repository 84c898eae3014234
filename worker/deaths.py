"""What the parent process says when its child, which holds the model, has died."""

import os
import signal
import time
import uuid
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs import workers
from models.types import WorkerState
from worker.pool import in_words, is_fatal
from worker.running import take_mark
from worker.settings import WorkerSettings

log = structlog.get_logger()

REPORT_TRIES: Final = 5
RETRY_SECONDS: Final = 1.0
EARLY_DEATHS: Final = 3


class Deaths:
    """Reports each death of a child, and gives up on a worker whose children die before they are ready."""

    def __init__(self, sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._early = 0

    def report(self, pid: int, code: int) -> None:
        """Give what the child held back to the queue, before another child starts under the worker's name."""
        if code == 0:
            return
        running = take_mark(self._settings.worker_id)
        log.error("worker.child_died", pid=pid, why=in_words(code))
        for _ in range(REPORT_TRIES):
            try:
                self._report(code, running)
            except SQLAlchemyError as error:
                log.warning("worker.death_unreported", error=str(error))
                time.sleep(RETRY_SECONDS)
            else:
                return
        # its leases run out by themselves

    def _report(self, code: int, running: uuid.UUID | None) -> None:
        worker_id = self._settings.worker_id
        with self._sessions.begin() as session:
            workers.report_death(session, worker_id, in_words(code), crashed=is_fatal(code), running=running)
            starting = session.scalar(workers.state_of(worker_id)) == WorkerState.STARTING
        # only signals: a child that exits by itself has said why, or waits for the database
        self._early = self._early + 1 if starting and code < 0 else 0
        if self._early >= EARLY_DEATHS:
            self._give_up(code)

    def _give_up(self, code: int) -> None:
        error = {
            "code": "start-crashed",
            "message": f"{self._early} times in a row its process died while it loaded the checkpoint or ran"
            f" its first batch, the last time so: {in_words(code)}. Is there enough memory?",
        }
        with self._sessions.begin() as session:
            workers.report_failed(session, self._settings.worker_id, error)
        log.error("worker.start_failed", **error)
        os.kill(os.getpid(), signal.SIGTERM)
