"""What a worker does with an invitation: claim after claim, until nothing waits or its time is over."""

import time
from typing import Final

from worker.batch import Held, put_back, run, take
from worker.runtime import Runtime

LOOK_SECONDS: Final = 0.01
"""A unit looks so often at most whether single items wait."""


def run_slice(runtime: Runtime) -> bool:
    """Run claim after claim; True when the time slice, or the worker, ended before the work did.

    Raises:
        CanaryFailedError: the model does not work any more.
        BlobStoreMissingError: the blob store is not there.
    """
    deadline = time.monotonic() + runtime.settings.slice_seconds
    if runtime.heartbeat.ending:
        return False
    way = GivingWay(runtime)
    try:
        held = take(runtime)
        while held is not None:
            # what comes next is decoded while the model is at this one
            goes_on = held.has_pictures and held.claim.sociable and not _is_over(runtime, deadline)
            ahead = take(runtime, beside=True) if goes_on else None
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

    Else an interactive job would wait for a unit of many passes; so it waits for one.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._held: Held | None = None
        self._looked_at = 0.0

    def give(self) -> None:
        """Run the single items whose turn it is; those whose pictures are not decoded yet, the next time."""
        if self._held is None and self._is_time_to_look():
            self._held = self._take()
        while self._held is not None and self._held.is_ready:
            self._run_held()
            self._held = self._take()

    def finish(self) -> None:
        """Run what was taken and is not run yet."""
        if self._held is not None:
            self._run_held()

    def _run_held(self) -> None:
        held, self._held = self._held, None
        assert held is not None
        run(self._runtime, held)

    def _take(self) -> Held | None:
        self._looked_at = time.monotonic()
        return None if self._runtime.heartbeat.ending else take(self._runtime, beside=True, single=True)

    def _is_time_to_look(self) -> bool:
        return time.monotonic() - self._looked_at >= LOOK_SECONDS


def _is_over(runtime: Runtime, deadline: float) -> bool:
    return time.monotonic() >= deadline or runtime.heartbeat.ending
