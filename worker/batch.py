"""A claim, top to bottom: take, decode, forward and lens, store."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from jobs.errors import BlobStoreFullError
from jobs.leases import Claim, Renewal
from jobs.tracing import Stage
from worker.canary import UNFIT, check_canary
from worker.claims import DATABASE_LOST, claim_work, drop_unwanted, give_back, is_single_next, store
from worker.compute import compute
from worker.decoding import Decoding
from worker.feed import begin_decoding
from worker.heartbeat import AbandonedError, Grip
from worker.metrics import CLAIMS
from worker.pace import items_gflop
from worker.passage import Passage
from worker.reuse import Reuse, find_reuse
from worker.runtime import Runtime
from worker.stages import traced

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Held:
    """A claim with its lease held and its pictures on their way."""

    claim: Claim
    grip: Grip
    decodings: list[Decoding | None]
    claimed: Stage
    reuse: Reuse = field(default_factory=Reuse)

    @property
    def has_pictures(self) -> bool:
        """Whether there is anything to decode."""
        return any(decoding is not None for decoding in self.decodings)

    @property
    def is_divisible(self) -> bool:
        """Whether it may take several forward passes, and others may go between them."""
        return self.claim.sociable and not self.claim.is_of_singles

    def is_ready_in(self, seconds: float) -> bool:
        """Whether nothing of it has to be waited for, then."""
        until = time.monotonic() + seconds
        return all(
            decoding is None or decoding.wait(max(0.0, until - time.monotonic()))
            for decoding in self.decodings
        )


def take(runtime: Runtime, *, beside: bool = False, single: bool = False) -> Held | None:
    """Claim what waits first, and begin to decode its pictures; None when nothing waits.

    For `beside` and `single` see `jobs.leases.Appetite`; pictures of single items are decoded before others.

    Raises:
        UNFIT: a store that is not mounted must stop the worker, not fail its pictures.
    """
    runtime.blobs.check()
    began_ns = time.time_ns()
    try:
        if single and not is_single_next(runtime):
            return None
        claim = claim_work(runtime, beside=beside, single=single)
    except DATABASE_LOST as error:
        # nothing is lost: whoever comes back is invited again
        log.warning("claim.failed", error=str(error))
        return None
    if claim is None:
        return None
    claimed = Stage("claim", began_ns, time.time_ns())
    # before anything else, for that may take longer than a lease lasts
    grip = runtime.heartbeat.hold(claim.token)
    try:
        reuse = find_reuse(runtime, claim)
        decodings = begin_decoding(runtime, claim, urgent=claim.is_of_singles, known=reuse.found)
    except Exception:
        runtime.heartbeat.let_go(grip)
        raise
    return Held(claim, grip, decodings, claimed, reuse)


def run(runtime: Runtime, held: Held, between: Callable[[], None] | None = None) -> None:
    """Compute a claim under its lease and store what came out; `between` is called between forward passes.

    Raises:
        UNFIT: the worker is to blame, or its host, and not the work.
    """
    claim = held.claim
    jobs = sorted({str(unit.job_id) for unit in claim.units})
    requests = sorted({unit.request_id for unit in claim.units if unit.request_id})
    with structlog.contextvars.bound_contextvars(token=str(claim.token), job_ids=jobs, request_ids=requests):
        log.info("claim.begun", units=len(claim.units), items=claim.size)
        try:
            with runtime.running.of(claim.token), traced(claim, runtime.settings.model, held.claimed):
                _run(runtime, held, between)
        finally:
            let_go(runtime, held)


def let_go(runtime: Runtime, held: Held) -> None:
    """Renew its lease no more, and begin to decode nothing more of it."""
    runtime.heartbeat.let_go(held.grip)
    for decoding in held.decodings:
        if decoding is not None:
            decoding.cancel()


def put_back(runtime: Runtime, held: Held) -> bool:
    """Give back what was not begun, if the worker is ending: the next one need not wait for its lease."""
    if not runtime.heartbeat.ending:
        return False
    let_go(runtime, held)
    give_back(runtime, held.claim, "the worker is ending", counts=False)
    return True


def _run(runtime: Runtime, held: Held, between: Callable[[], None] | None) -> None:
    passage = Passage(runtime.heartbeat, held.grip, between)
    try:
        outcome = compute(runtime, held.claim, held.decodings, held.reuse, passage)
        gflop = items_gflop(held.claim, runtime.checkpoint, held.reuse.found)
        runtime.heartbeat.pace.learn(passage.seconds, gflop)
        store(runtime, held.claim, outcome)
    except AbandonedError:
        log.warning("claim.abandoned", why=held.grip.news)
        CLAIMS.labels("abandoned").inc()
        if held.grip.news is Renewal.UNWANTED:
            _try_to_drop(runtime, held)
    except BlobStoreFullError as error:
        # it waits for room, however long that takes: that is no fault of the work
        log.warning("claim.waits_for_room", error=str(error))
        _try_to_give_back(runtime, held, error, counts=False)
    except UNFIT as error:
        _try_to_give_back(runtime, held, error, counts=False)
        raise
    except (Exception, SystemExit) as error:
        # not the items' fault: a later moment, or a worker with more room, may do it
        log.exception("claim.failed")
        _try_to_give_back(runtime, held, error, counts=True)
        check_canary(runtime.engine)
    else:
        if not outcome.results:
            # it may be the work, and it may be the device
            check_canary(runtime.engine)


def _try_to_drop(runtime: Runtime, held: Held) -> None:
    try:
        drop_unwanted(runtime, held.claim)
    except DATABASE_LOST as lost:
        # its lease runs out, and then it is dropped
        log.warning("claim.kept", error=str(lost))


def _try_to_give_back(runtime: Runtime, held: Held, error: BaseException, *, counts: bool) -> None:
    try:
        give_back(runtime, held.claim, f"{type(error).__name__}: {error}", counts=counts)
    except DATABASE_LOST as lost:
        # its lease runs out
        log.warning("claim.kept", error=str(lost))
