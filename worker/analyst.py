"""What an analyst does with an invitation: unit after unit, until nothing waits or its time is over."""

import time
from dataclasses import dataclass

import structlog

from jobs import leases
from jobs.errors import BlobStoreFullError, BlobStoreMissingError, DomainError
from jobs.leases import Claim, Holder, ItemResult, Renewal, UnitResult
from jobs.tracing import Stage
from models.queue import ANALYSIS
from models.types import JobType
from worker.analyst_handlers import HANDLERS
from worker.analyst_runtime import Analyst
from worker.claims import DATABASE_LOST, STORE_RETRY_SECONDS, Outcome, drop_unwanted, give_back, store
from worker.errors import PausedError
from worker.heartbeat import AbandonedError, Grip
from worker.metrics import CLAIMS
from worker.passage import Passage
from worker.stages import stage, traced

log = structlog.get_logger()

GIVE_BACK_TRIES = 30
ROOM_SECONDS = 1.0
"""A full disk is tried again no sooner."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claim of one unit, with its lease held."""

    claim: Claim
    grip: Grip
    claimed: Stage


def run_slice(analyst: Analyst) -> bool:
    """Run unit after unit; True when the time slice, or the worker, ended before the work did.

    Raises:
        BlobStoreMissingError, OSError: the host is to blame: another worker is to do it.
    """
    deadline = time.monotonic() + analyst.settings.slice_seconds
    try:
        while not analyst.heartbeat.ending:
            analyst.blobs.check()
            held = _take(analyst)
            if held is None:
                return False
            _run(analyst, held)
            if time.monotonic() >= deadline:
                return True
    finally:
        # whatever went wrong: what nobody works on is renewed no more
        analyst.heartbeat.let_go()
    return True


def _take(analyst: Analyst) -> Held | None:
    settings = analyst.settings
    holder = Holder(settings.worker_id, settings.lease, settings.hard_limit)
    began_ns = time.time_ns()
    try:
        with stage("claim"), analyst.sessions.begin() as session:
            claim = leases.claim(session, settings.model, holder)
    except DATABASE_LOST as error:
        # nothing is lost: whoever comes back is invited again
        log.warning("claim.failed", error=str(error))
        return None
    if claim is None:
        return None
    return Held(claim, analyst.heartbeat.hold(claim.token), Stage("claim", began_ns, time.time_ns()))


def _run(analyst: Analyst, held: Held) -> None:
    (unit,) = held.claim.units
    with structlog.contextvars.bound_contextvars(
        token=str(held.claim.token), job_id=str(unit.job_id), request_id=unit.request_id
    ):
        log.info("claim.begun", type=unit.type, attempt=unit.attempt)
        try:
            with analyst.running.of(held.claim.token), traced(held.claim, ANALYSIS, held.claimed):
                _work(analyst, held)
        finally:
            analyst.heartbeat.let_go(held.grip)


def _work(analyst: Analyst, held: Held) -> None:
    passage = Passage(analyst.heartbeat, held.grip)
    try:
        result = _result(analyst, held.claim, passage)
    except AbandonedError:
        log.warning("claim.abandoned", why=held.grip.news)
        CLAIMS.labels("abandoned").inc()
        if held.grip.news is Renewal.UNWANTED:
            _try_to_drop(analyst, held)
    except PausedError as error:
        _try_to_give_back(analyst, held, str(error), counts=False)
    except BlobStoreFullError as error:
        # it waits for room, however long that takes: that is no fault of the work
        log.warning("claim.waits_for_room", error=str(error))
        time.sleep(ROOM_SECONDS)
        _try_to_give_back(analyst, held, str(error), counts=False)
    except (BlobStoreMissingError, OSError) as error:
        _try_to_give_back(analyst, held, str(error), counts=False)
        raise
    except DATABASE_LOST as error:
        # one that went away is no fault of the work either; what it refuses may be
        log.warning("claim.database_lost", error=str(error))
        _try_to_give_back(analyst, held, str(error), counts=not error.connection_invalidated)
    except (Exception, SystemExit) as error:
        log.exception("claim.failed")
        _try_to_give_back(analyst, held, f"{type(error).__name__}: {error}", counts=True)
    else:
        store(analyst, held.claim, Outcome([result]))


def _result(analyst: Analyst, claim: Claim, passage: Passage) -> UnitResult:
    """What came of the unit: its payload, or the error that the domain has of it."""
    (unit,) = claim.units
    (item,) = unit.items
    # where work stood when it was claimed says nothing of its result
    told = {name: value for name, value in item.items() if name != "progress"}
    try:
        with stage("unit"):
            payload = HANDLERS[JobType(unit.type)](analyst, unit, passage)
    except (BlobStoreFullError, BlobStoreMissingError):
        raise
    except DomainError as error:
        log.warning("item.failed", code=error.code)
        fault = {"code": error.code, "message": error.message, "retryable": False}
        return UnitResult(unit.job_id, unit.unit, [ItemResult(told, error=fault)])
    if unit.attempt == 1:
        # one that was begun before has cost more than was seen of it
        analyst.heartbeat.pace.learn(passage.seconds, unit.cost)
    return UnitResult(unit.job_id, unit.unit, [ItemResult(told, payload=payload)])


def _try_to_drop(analyst: Analyst, held: Held) -> None:
    try:
        drop_unwanted(analyst, held.claim)
    except DATABASE_LOST as lost:
        # its lease runs out, and then it is dropped
        log.warning("claim.kept", error=str(lost))


def _try_to_give_back(analyst: Analyst, held: Held, reason: str, *, counts: bool) -> None:
    for _ in range(GIVE_BACK_TRIES):
        try:
            give_back(analyst, held.claim, reason, counts=counts)
        except DATABASE_LOST as lost:
            log.warning("claim.kept", error=str(lost))
            time.sleep(STORE_RETRY_SECONDS)
        else:
            return
    # its lease runs out
