"""The duties that keep the ledger moving, run by every API process; each is a function that runs once.

A duty runs in its own short transaction under an advisory lock, so that one process at a time does it, and
under a transaction timeout, so that a process that freezes holds nothing. Those that bring work forward run
in one loop, those that tidy up in another: a slow disk must not hold up recovery. Nor is history to wait.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs import queries
from jobs.accounts import forget_sessions
from jobs.acting import SLICE_SECONDS, Actor
from jobs.blobs import BlobStore
from jobs.broker import BROKER_ERRORS, Inviter
from jobs.deadlines import continue_cancels, expire_unstarted, stop_overdue
from jobs.endpoints import forget_secrets
from jobs.history import SLICE_SECONDS as COUNT_SECONDS
from jobs.history import count_minutes, forget_minutes, sum_hours
from jobs.idempotency import forget_keys
from jobs.images import remove_dying
from jobs.recovery import Expiry, fail_hopeless, judge_struck
from jobs.reservations import forget_reservations
from jobs.retention import (
    DELETED_JOBS_KEPT,
    expire_results,
    forget_deleted,
    forget_sets,
    forget_usage,
    forget_workers,
    remove_drafts,
)
from jobs.sources import remove_sources
from jobs.text_cache import BudgetRound, TextBudget, forget_unused
from jobs.undelivered import DELIVERIES_KEPT, end_unwanted, prune_deliveries
from models.faults import first_line

log = structlog.get_logger()

RECOVER_SECONDS = 1.0
TIDY_SECONDS = 10.0
RECORD_SECONDS = 5.0
DATABASE_AWAY_SECONDS = 2.0
TURN_SECONDS = 2.0
"""A duty that finds more and more to do is run again for so long before the next one has its turn."""
TRANSACTION_SECONDS = 5
"""A process that freezes in the midst of a duty loses its transaction, and the locks, after so long."""
LOCK_SPACE = 0x4C51  # "LQ": our advisory locks, apart from anybody else's in this database
IMAGES, RESULTS, SOURCES = 3, 9, 17
REMOVING: Final = (IMAGES, RESULTS, SOURCES)
"""The locks of those duties that remove files which rows have named."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done now and then, in a transaction of its own; `run` returns how much it did.

    `lock` numbers its advisory lock, which is the same in every version that may run at once; without one all
    processes do it. An `exhausting` duty takes a slice at a time, and is run again while it finds any; its
    transaction may take so many `seconds`, by default TRANSACTION_SECONDS.
    """

    lock: int | None
    run: Callable[[Session], int]
    exhausting: bool = True
    seconds: int | None = None


def expiring() -> list[Duty]:
    """What must not wait for other duties."""
    return [Duty(None, Expiry())]


def recovering(inviter: Inviter) -> list[Duty]:
    """What brings work forward."""
    return [
        Duty(1, fail_hopeless),
        Duty(5, judge_struck),
        Duty(6, continue_cancels),
        Duty(7, expire_unstarted),
        Duty(8, stop_overdue),
        Duty(2, partial(invite_workers, inviter=inviter), exhausting=False),
    ]


def tidying(
    blobs: BlobStore,
    texts: TextBudget,
    *,
    deleted_jobs_kept: timedelta = DELETED_JOBS_KEPT,
    deliveries_kept: timedelta = DELIVERIES_KEPT,
) -> list[Duty]:
    """What removes what nobody needs any more."""
    return [
        Duty(IMAGES, partial(remove_dying, blobs=blobs)),
        Duty(4, forget_keys),
        Duty(RESULTS, partial(expire_results, blobs=blobs)),
        Duty(10, forget_workers),
        Duty(11, partial(remove_drafts, blobs=blobs), exhausting=False),
        Duty(12, partial(forget_unused, budget=texts)),
        Duty(13, BudgetRound(texts)),
        Duty(14, forget_reservations),
        Duty(15, forget_usage),
        Duty(16, forget_sets),
        Duty(SOURCES, partial(remove_sources, blobs=blobs), exhausting=False),
        Duty(20, partial(forget_deleted, kept=deleted_jobs_kept)),
        Duty(30, end_unwanted),
        Duty(31, partial(prune_deliveries, kept=deliveries_kept)),
        Duty(32, forget_secrets, exhausting=False),
    ]


def recording(kept: timedelta) -> list[Duty]:
    """What keeps the history that the dashboard shows, for so long."""
    return [
        Duty(40, partial(count_minutes, kept=kept), seconds=COUNT_SECONDS),
        Duty(43, sum_hours),
        Duty(41, partial(forget_minutes, kept=kept)),
        Duty(42, forget_sessions, exhausting=False),
    ]


def acting(actor: Actor) -> list[Duty]:
    """What is done to many jobs by somebody's wish."""
    return [Duty(21, actor, seconds=SLICE_SECONDS)]


def keep(
    sessions: sessionmaker[Session], duties: Sequence[Duty], every_seconds: float, stop: threading.Event
) -> None:
    """Run all duties again and again until told to stop; a database that is away is waited for."""
    while not stop.wait(every_seconds):
        for duty in duties:
            try:
                run_out(sessions, duty, stop)
            except OperationalError as error:
                # not always the database: a deadlock, or a duty that ran too long, is no matter of the others
                log.warning("maintenance.waits_for_database", duty=duty.lock, error=first_line(error))
                stop.wait(DATABASE_AWAY_SECONDS)
            except SQLAlchemyError as error:
                log.warning("maintenance.failed", duty=duty.lock, error=str(error))
            except Exception:
                # a fault in one duty must not end the others
                log.exception("maintenance.failed", duty=duty.lock)
            if stop.is_set():
                return


def run_out(sessions: sessionmaker[Session], duty: Duty, stop: threading.Event) -> None:
    """Run a duty, an exhausting one until it finds nothing to do, each time in a transaction of its own."""
    turn_ends = time.monotonic() + TURN_SECONDS
    while True:
        with sessions.begin() as session:
            done = run_alone(session, duty.lock, duty.run, duty.seconds)
        if not done or not duty.exhausting or stop.is_set() or time.monotonic() > turn_ends:
            return


def run_alone(
    session: Session,
    number: int | None,
    duty: Callable[[Session], int],
    seconds: int | None = None,
) -> int:
    """Run a duty unless another process is at it; returns how much it did, 0 when it was not our turn."""
    session.execute(text(f"SET LOCAL transaction_timeout = '{seconds or TRANSACTION_SECONDS}s'"))
    if number is None:
        return duty(session)
    turn = session.scalar(
        text("SELECT pg_try_advisory_xact_lock(:space, :number)"), {"space": LOCK_SPACE, "number": number}
    )
    return duty(session) if turn else 0


def hold_removals(session: Session) -> None:
    """Keep all processes from removing files, until the transaction ends: whoever backs up holds it open.

    What rows name when the database is dumped is then still there when the files are copied. One who is at it
    is waited for, a few seconds at most.
    """
    for number in REMOVING:
        session.execute(
            text("SELECT pg_advisory_xact_lock(:space, :number)"), {"space": LOCK_SPACE, "number": number}
        )


def invite_workers(session: Session, inviter: Inviter) -> int:
    """Send invitations where work waits and the queue is empty: messages are lost, work is not."""
    sent = 0
    for model, job_id, waiting in session.execute(queries.waiting_models(limit=16)).all():
        try:
            if inviter.waiting(model):
                continue
        except BROKER_ERRORS as error:
            log.warning("broker.unreachable", error=str(error))
            return sent
        wanted = min(waiting, max(1, session.scalar(queries.workers_online(model)) or 0))
        for _ in range(wanted):
            inviter.invite(model, job_id)
        sent += wanted
    return sent
