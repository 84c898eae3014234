"""A claim on its way through the model: says that it goes on, lets others go between, is timed alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.heartbeat import Grip, Heartbeat


class Passage:
    """One claim's, from its first forward pass to its last."""

    def __init__(
        self, heartbeat: Heartbeat, grip: Grip | None = None, between: Callable[[], None] | None = None
    ) -> None:
        """Start the time; `between` runs what may go between its passes."""
        self._heartbeat = heartbeat
        self._grip = grip
        self._between = between
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it took until now, without what was not its own."""
        return time.monotonic() - self._started

    def step(self) -> None:
        """Say that it goes on: before each forward pass, and with each part of anything else that takes long.

        Raises:
            AbandonedError: it need not.
        """
        self._heartbeat.step(self._grip)
        self.linger()

    def linger(self) -> None:
        """Let others go while something is waited for, which is no progress.

        Raises:
            AbandonedError: it need not be waited for.
        """
        if self._between is not None:
            with self.aside():
                self._between()
        self._heartbeat.check(self._grip)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time that does not count: it says nothing of what the claim's items cost."""
        left_at = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - left_at
