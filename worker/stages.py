"""The stages of work as they pass: measured for metrics, and kept for the trace of the work they are of."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from jobs import tracing
from jobs.leases import Claim
from jobs.tracing import Stage
from worker.metrics import STAGE_SECONDS

_kept: Final[ContextVar[list[Stage] | None]] = ContextVar("stages", default=None)


@contextmanager
def stage(name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Measure one, also where it fails; by a clock that may leave out what is not its own."""
    since, since_ns = clock(), time.time_ns()
    try:
        yield
    finally:
        STAGE_SECONDS.labels(name).observe(clock() - since)
        if (kept := _kept.get()) is not None:
            kept.append(Stage(name, since_ns, time.time_ns()))


@contextmanager
def traced(claim: Claim, model: str, claimed: Stage) -> Iterator[None]:
    """Keep the stages meanwhile, and tell them in the trace of each job of the claim.

    A batch of many jobs is in the traces of all of them: what they share took its time for each.
    """
    parents = {unit.job_id: unit.traceparent for unit in claim.units if unit.traceparent}
    if not parents or not tracing.is_on():
        yield
        return
    stages = [claimed]
    # what goes between its passes keeps its own
    before = _kept.set(stages)
    try:
        yield
    finally:
        _kept.reset(before)
        told: dict[str, str | int] = {"model": model, "batch.items": claim.size, "lease": str(claim.token)}
        for job_id, parent in parents.items():
            tracing.tell_work(parent, stages, {**told, "job_id": str(job_id)})
