"""What a worker does with an invitation: claim after claim, until nothing waits or its time is over."""

import time
from collections import deque
from typing import Final

from worker.batch import Held, put_back, run, take
from worker.runtime import Runtime

LOOK_SECONDS: Final = 0.01
"""A unit looks so often at most whether single items wait."""
READY_SECONDS: Final = 0.005
"""So long the model may wait for a small picture: less than for its turn after another pass."""


def run_slice(runtime: Runtime) -> bool:
    """Run claim after claim; True when the time slice, or the worker, ended before the work did.

    Raises:
        UNFIT: the worker, or its host, can do no work any more.
    """
    deadline = time.monotonic() + runtime.settings.slice_seconds
    if runtime.heartbeat.ending:
        return False
    way = GivingWay(runtime)
    try:
        held = take(runtime)
        while held is not None:
            ahead = None if _is_over(runtime, deadline) else _take_ahead(runtime, held, way)
            run(runtime, held, way.give if held.is_divisible else None)
            way.finish()
            if _is_over(runtime, deadline) and (ahead is None or put_back(runtime, ahead)):
                return True
            held = ahead or take(runtime)
    finally:
        # whatever went wrong: what nobody works on is renewed no more
        runtime.heartbeat.let_go()
    return False


class GivingWay:
    """Lets single items go between the forward passes of a larger unit, once it is their turn.

    Else an interactive job would wait for a unit of many passes; so it waits for one. After each pass they
    get one of their own, however many they are: the unit's turn came before theirs.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: deque[Held] = deque()
        self._looked_at = 0.0

    def give(self) -> None:
        """Run single items whose turn it is; those whose pictures are not decoded yet, the next time."""
        self.look()
        if self._waiting and self._waiting[0].is_ready_in(READY_SECONDS):
            run(self._runtime, self._waiting.popleft())

    def look(self) -> None:
        """Claim single items whose turn it is, unless some were and are not run yet."""
        now = time.monotonic()
        if self._waiting or self._runtime.heartbeat.ending or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        held = take(self._runtime, beside=True, single=True)
        if held is not None:
            self.accept(held)

    def accept(self, held: Held) -> None:
        """Run these too when there is time."""
        self._waiting.append(held)

    def finish(self) -> None:
        """Run what was claimed and is not run yet."""
        while self._waiting:
            run(self._runtime, self._waiting.popleft())


def _take_ahead(runtime: Runtime, held: Held, way: GivingWay) -> Held | None:
    """Claim what comes next, so that its pictures are decoded while the model is at what is held."""
    if not held.has_pictures or not held.claim.sociable:
        return None
    if not held.is_divisible:
        return take(runtime, beside=True)
    # single items are not to wait for all of a unit: they go between its passes
    way.look()
    ahead = take(runtime, beside=True)
    if ahead is not None and ahead.claim.is_of_singles:
        way.accept(ahead)
        return None
    return ahead


def _is_over(runtime: Runtime, deadline: float) -> bool:
    return time.monotonic() >= deadline or runtime.heartbeat.ending
