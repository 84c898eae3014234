"""The worker's heartbeat: says that it lives and what it finished, and renews the leases it works under."""

import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs.item_counts import count_finished
from jobs.leases import Renewal, renew
from jobs.workers import Vitals, report_alive
from models.types import WorkerState
from worker import metrics
from worker.memory import Memory
from worker.pace import Pace
from worker.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

MAX_SECONDS = 2.0
"""A worker is heard of at least so often, however long its leases are."""


class AbandonedError(Exception):
    """The work is to be left: its lease is lost, or nobody wants it any more."""


@dataclass(slots=True)
class Grip:
    """A lease that is held, and what the last heartbeat learnt of it."""

    token: uuid.UUID
    news: Renewal = Renewal.RENEWED


class Heartbeat:
    """A thread that beats from construction to `stop`; it renews as long as the work makes progress."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        worker_id: uuid.UUID,
        every_seconds: float,
        *,
        pace: Pace | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        """Start the thread; without `stall_seconds` it is the pace that tells what is too slow."""
        self._sessions = sessions
        self._worker_id = worker_id
        self._every_seconds = min(every_seconds, MAX_SECONDS)
        self._stall_seconds = stall_seconds
        self.pace = pace or Pace()
        self.tally = Tally()
        self.measure: Callable[[], Memory | None] = lambda: None
        """How much memory is taken; told by whoever has loaded a model, and knows where."""
        self._memory: Memory | None = None
        self.ending = False
        """Whether the worker was told to end, or to drain: finish what is held, claim no more."""
        self._grips: tuple[Grip, ...] = ()
        self._stepped_at = time.monotonic()
        self._said_stalled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    def hold(self, token: uuid.UUID) -> Grip:
        """Renew this lease from now on."""
        if not self._grips:
            self.step()
        grip = Grip(token)
        self._grips += (grip,)
        return grip

    def let_go(self, *grips: Grip) -> None:
        """Renew these no more; all that are held when none are named."""
        self._grips = tuple(grip for grip in self._grips if grips and grip not in grips)

    def step(self, grip: Grip | None = None) -> None:
        """Say that the work goes on.

        Raises:
            AbandonedError: the work of this grip need not.
        """
        self._stepped_at = time.monotonic()
        self._said_stalled = False
        self.check(grip)

    def check(self, grip: Grip | None) -> None:
        """Look whether work is still wanted.

        Raises:
            AbandonedError: the work of this grip is not.
        """
        if grip is not None and grip.news is not Renewal.RENEWED:
            raise AbandonedError(grip.news)

    def stop(self) -> None:
        """End the thread, and say what is still to be said."""
        self._stop.set()
        self._thread.join(timeout=5)
        try:
            self._tell_finished()
        except SQLAlchemyError as error:
            log.warning("heartbeat.count_lost", error=str(error))

    def _beat_on(self) -> None:
        while not self._stop.wait(self._every_seconds):
            try:
                self._beat()
                metrics.HEARTBEATS.labels("told").inc()
                # behind the beat: leases wait for neither of these
                self._tell_finished()
                self._memory = self._measured()
            except SQLAlchemyError as error:
                metrics.HEARTBEATS.labels("missed").inc()
                # the lease outlives several beats; the next one may pass
                log.warning("heartbeat.missed", error=str(error))
            except Exception:
                # a heart that stops for a fault would cost every later unit its lease
                log.exception("heartbeat.failed")

    def _beat(self) -> None:
        with self._sessions.begin() as session:
            if not self._is_stalled():
                for grip in self._grips:
                    self._renew(session, grip)
            state = report_alive(session, self._worker_id, self._vitals())
            self.ending = state in {WorkerState.OFFLINE, WorkerState.DRAINING}

    def _vitals(self) -> Vitals:
        memory = self._memory
        return Vitals(
            self.pace.seconds_per_gflop,
            self.pace.fill.share,
            memory.taken if memory else None,
            memory.limit if memory else None,
        )

    def _measured(self) -> Memory | None:
        try:
            memory = self.measure()
        except RuntimeError as error:
            # a device that is sick: the work on it says so
            log.warning("heartbeat.unmeasured", error=str(error))
            return None
        if memory is not None:
            metrics.MEMORY_BYTES.set(memory.taken)
            metrics.MEMORY_LIMIT_BYTES.set(memory.limit)
        return memory

    def _tell_finished(self) -> None:
        """Count what was finished since; what could not be told is told with the next beat.

        In a transaction of its own: it may have to wait for another worker's count, and leases must not.
        Where only the answer to its commit is lost, it is counted twice: these are numbers for charts.
        """
        counts = self.tally.take()
        try:
            while counts:
                model, finished = next(iter(counts.items()))
                with self._sessions.begin() as session:
                    count_finished(session, self._worker_id, model, finished)
                del counts[model]
        finally:
            self.tally.put(counts)

    def _renew(self, session: Session, grip: Grip) -> None:
        news = renew(session, grip.token)
        if news is not grip.news and grip in self._grips:
            grip.news = news
            # no warning: most leases that are gone were completed a moment ago
            log.info("lease.news", token=str(grip.token), news=news)

    def _is_stalled(self) -> bool:
        limit = self.pace.stall_seconds if self._stall_seconds is None else self._stall_seconds
        idle = time.monotonic() - self._stepped_at
        stalled = bool(self._grips) and idle > limit
        if stalled and not self._said_stalled:
            # from here on the leases run out: somebody else is to try, whatever this process is stuck in
            log.error("lease.stalled", tokens=[str(grip.token) for grip in self._grips], idle_seconds=idle)
            metrics.STALLS.inc()
            self._said_stalled = True
        return stalled
