"""The duties that keep the ledger moving, run by every API process; each is a function that runs once.

A duty runs in its own short transaction under an advisory lock, so that one process at a time does it, and
under a transaction timeout, so that a process that freezes holds nothing.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from jobs import queries, transitions
from jobs.blobs import BlobStore
from jobs.broker import BROKER_ERRORS, Inviter
from jobs.idempotency import forget_keys
from jobs.images import remove_dying
from jobs.leases import ItemResult, store_results
from models.job import JobInput
from models.types import AttemptOutcome

log = structlog.get_logger()

EVERY_SECONDS = 1.0
DATABASE_AWAY_SECONDS = 2.0
MAX_LOSSES = 10
LOCK_SPACE = 0x4C51  # "LQ": our advisory locks, apart from anybody else's in this database
LOST: dict[str, Any] = {
    "code": "worker-lost",
    "message": f"{MAX_LOSSES} tries ended without a result, the last with the worker gone: too large for it?",
    "retryable": True,
}
FAILED: dict[str, Any] = {
    "code": "inference-failed",
    "message": f"{MAX_LOSSES} tries in a row failed for a fault of the worker; its log says which.",
    "retryable": True,
}
Duty = Callable[[Session], int]


def keep(sessions: sessionmaker[Session], inviter: Inviter, blobs: BlobStore, stop: threading.Event) -> None:
    """Run all duties every second until told to stop; a database that is away is waited for."""
    duties: list[Duty] = [
        expire_leases,
        fail_hopeless,
        partial(invite_workers, inviter=inviter),
        partial(remove_dying, blobs=blobs),
        forget_keys,
    ]
    while not stop.wait(EVERY_SECONDS):
        for number, duty in enumerate(duties):
            try:
                with sessions.begin() as session:
                    run_alone(session, number, duty)
            except OperationalError as error:
                log.warning("maintenance.waits_for_database", error=str(error.orig).splitlines()[0])
                stop.wait(DATABASE_AWAY_SECONDS)
                break
            except SQLAlchemyError as error:
                log.warning("maintenance.failed", duty=number, error=str(error))
            except Exception:
                # a fault in one duty must not end the others
                log.exception("maintenance.failed", duty=number)


def run_alone(session: Session, number: int, duty: Duty) -> int:
    """Run a duty unless another process is at it; returns how much it did, 0 when it was not our turn."""
    session.execute(text("SET LOCAL transaction_timeout = '10s'"))
    turn = session.scalar(
        text("SELECT pg_try_advisory_xact_lock(:space, :number)"), {"space": LOCK_SPACE, "number": number}
    )
    return duty(session) if turn else 0


def expire_leases(session: Session) -> int:
    """Take leases that ran out from their holders; the work waits again."""
    tokens = session.execute(transitions.EXPIRE_LEASES).scalars().all()
    for token in tokens:
        log.warning("lease.expired", token=str(token))
    return len(tokens)


def fail_hopeless(session: Session) -> int:
    """Fail the items of work that was lost too often, so that its job ends."""
    taken = session.execute(transitions.TAKE_HOPELESS, {"max_losses": MAX_LOSSES}).all()
    # jobs are counted in the order of their ids, as everywhere
    for job_id, unit in sorted(taken):
        items = session.scalars(
            select(JobInput.items).where(JobInput.job_id == job_id, JobInput.unit == unit)
        ).one()
        outcome = session.scalar(queries.last_outcome(job_id, unit))
        error = FAILED if outcome == AttemptOutcome.RELEASED else LOST
        store_results(session, job_id, [ItemResult(item, error=error) for item in items])
        log.error("work.hopeless", job_id=str(job_id), unit=unit)
    return len(taken)


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
