"""In the parent: what the ledger says of this worker. It is to drain, or its child has fallen silent."""

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
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
SILENT_LOOKS: Final = 5
"""So often in a row: when the database was away, the child's next beat may take a moment."""
SILENT_LEASES: Final = 2
YOUNG_LEASES: Final = 8
"""A child that is no older may still be importing torch, before it says its first word."""


def watch(consumer: Any, sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    """Start a thread that looks every second, for as long as the process lives."""
    thread = threading.Thread(
        target=_watch, args=(consumer, sessions, settings), name="oversight", daemon=True
    )
    thread.start()


def _watch(consumer: Any, sessions: sessionmaker[Session], settings: WorkerSettings) -> None:
    pause = threading.Event()
    children: dict[int, float] = {}
    draining, silent = False, 0
    while not pause.wait(LOOK_SECONDS):
        children = {pid: children.get(pid, time.monotonic()) for pid in consumer.pool.child_pids}
        try:
            with sessions() as session:
                presence = workers.presence_of(settings.worker_id, SILENT_LEASES * settings.lease)
                state, is_silent = session.execute(presence).one()
        except SQLAlchemyError:
            # the child's heartbeat says it already
            silent = 0
            continue
        if state == WorkerState.DRAINING and not draining:
            # messages go to others; the consumer is the main thread's
            consumer.call_soon(consumer.cancel_task_queue, queue_of(settings.model).name)
            log.info("worker.draining")
            draining = True
        silent = silent + 1 if is_silent else 0
        if silent >= SILENT_LOOKS:
            _kill(
                pid
                for pid, since in children.items()
                if time.monotonic() - since > YOUNG_LEASES * settings.lease_seconds
            )
            silent = 0


def _kill(pids: Iterable[int]) -> None:
    """Kill a child whose threads all stand still: its time limit would end it minutes later."""
    for pid in pids:
        log.error("worker.child_silent", pid=pid, what="it is killed, and another one started")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
