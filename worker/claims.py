"""What a worker says to the ledger of the work it claims; each verb is a transaction of its own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from jobs import leases
from jobs.deadlines import continue_cancels
from jobs.leases import Appetite, Claim, Holder, Returned, UnitResult
from worker.heartbeat import Heartbeat
from worker.metrics import CLAIMS
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.stages import stage

log = structlog.get_logger()

DATABASE_LOST = (OperationalError, InterfaceError)
STORE_RETRY_SECONDS = 1.0
MAX_REASON = 500


class Claimant(Protocol):
    """A worker's child as the ledger knows it: one with a model, or an analyst."""

    @property
    def settings(self) -> WorkerSettings:
        """Who it is."""

    @property
    def sessions(self) -> sessionmaker[Session]:
        """Its way to the ledger."""

    @property
    def heartbeat(self) -> Heartbeat:
        """What renews its leases."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a claim: units with their results, and units to be tried again."""

    results: Sequence[UnitResult]
    returned: Sequence[Returned] = field(default=())


def claim_work(runtime: Runtime, *, beside: bool = False, single: bool = False) -> Claim | None:
    """Lease what waits first for this worker's model, and what may share its batch; see `Appetite`."""
    settings = runtime.settings
    appetite = Appetite(settings.batch_items, runtime.room.memory_bytes, beside, single)
    holder = Holder(settings.worker_id, settings.lease, settings.hard_limit, appetite)
    with stage("claim"), runtime.sessions.begin() as session:
        return leases.claim(session, settings.model, holder)


def is_single_next(runtime: Runtime) -> bool:
    """Whether a single item waits first."""
    with runtime.sessions() as session:
        return leases.is_single_next(session, runtime.settings.model)


def store(runtime: Claimant, claim: Claim, outcome: Outcome) -> None:
    """Complete the claim; what was computed is kept and tried again while the database is away."""
    while True:
        runtime.heartbeat.step()
        try:
            with stage("store"), runtime.sessions.begin() as session:
                kept = leases.complete(session, claim.token, outcome.results, outcome.returned)
        except DATABASE_LOST as error:
            log.warning("store.retried", error=str(error))
            time.sleep(STORE_RETRY_SECONDS)
        else:
            break
    CLAIMS.labels("completed" if kept else "lost").inc()
    if kept:
        runtime.heartbeat.tally.count(runtime.settings.model, claim, outcome.results)
    for unit in outcome.returned:
        log.warning("unit.released", job_id=str(unit.job_id), unit=unit.unit, reason=unit.reason)
    log.info("claim.completed" if kept else "claim.lost")


def give_back(runtime: Claimant, claim: Claim, reason: str, *, counts: bool = True) -> None:
    """Put all work of a claim back into the queue, with the reason in its history."""
    with runtime.sessions.begin() as session:
        leases.release(session, claim.token, reason[:MAX_REASON], counts=counts)
    CLAIMS.labels("released").inc()
    log.warning("claim.released", reason=reason)


def drop_unwanted(runtime: Claimant, claim: Claim) -> None:
    """Give back work of jobs that are being cancelled, and have it dropped before anybody claims it."""
    give_back(runtime, claim, "cancelled", counts=False)
    with runtime.sessions.begin() as session:
        continue_cancels(session)
