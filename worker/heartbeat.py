"""The worker's heartbeat: says that it is alive, and renews the lease on what it works on."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs.leases import renew
from jobs.workers import report_alive

log = structlog.get_logger()

MAX_SECONDS = 2.0
"""A worker is heard of at least so often, however long its leases are."""


class Heartbeat:
    """A thread that beats from construction to `stop`."""

    def __init__(self, sessions: sessionmaker[Session], worker_id: uuid.UUID, every_seconds: float) -> None:
        self._sessions = sessions
        self._worker_id = worker_id
        self._every_seconds = min(every_seconds, MAX_SECONDS)
        self.ending = False
        """Whether the worker was told to end: finish what is held, claim no more."""
        self._token: uuid.UUID | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def holding(self, token: uuid.UUID) -> Iterator[None]:
        """Renew this lease as long as the block runs."""
        self._token = token
        try:
            yield
        finally:
            self._token = None

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _beat_on(self) -> None:
        while not self._stop.wait(self._every_seconds):
            try:
                self._beat()
            except SQLAlchemyError as error:
                # the lease outlives several beats; the next one may pass
                log.warning("heartbeat.missed", error=str(error))
            except Exception:
                # a heart that stops for a fault would cost every later unit its lease
                log.exception("heartbeat.failed")

    def _beat(self) -> None:
        token = self._token
        with self._sessions.begin() as session:
            if token is not None and not renew(session, token) and token == self._token:
                log.warning("lease.lost", token=str(token))
            self.ending = not report_alive(session, self._worker_id)
