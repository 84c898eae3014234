"""Decoders at work beside the model: pictures go to whichever is free, and come back in order."""

import queue
import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import TracebackType
from typing import Self

import structlog

from pictures.decode import DEFAULT_LIMITS, Limits
from worker.decoding_process import Terms
from worker.feeding import DecodingStoppedError, Feeder, Pending, Place, Task

log = structlog.get_logger()

URGENT, USUAL, END = range(3)


class DecodePool:
    """Decoding processes, each fed by a thread of this one; no picture can harm another or the model.

    Of encoded bytes and full-size pixels no more than one picture a process is held. How many squares are
    held is bounded by who hands in: what a worker has claimed, a few hundred at most.
    """

    def __init__(
        self,
        side: int,
        resample: int,
        limits: Limits = DEFAULT_LIMITS,
        *,
        processes: int,
        seconds_per_picture: float,
        memory_bytes: int,
    ) -> None:
        """Start the processes and return at once.

        `side` and `resample` (Pillow's number) are the checkpoint's, see `pictures.convert.squash`.
        """
        terms = Terms(side, resample, limits, seconds_per_picture, memory_bytes)
        self._line: queue.PriorityQueue[Place] = queue.PriorityQueue()
        self._numbers = count()
        self._changed = threading.Lock()
        self._closed = False
        self._reported = False
        self._feeders = [Feeder(terms, self._line, self._report) for _ in range(processes)]
        for feeder in self._feeders:
            feeder.start()

    def submit(
        self,
        loads: Sequence[Callable[[], bytes]],
        *,
        thumbnails: bool = False,
        draft: bool = False,
        urgent: bool = False,
    ) -> Pending:
        """Hand in pictures; `loads` read the bytes of one each, when a process is free for it.

        Returns at once. What is urgent is decoded before all that is not. For `draft` see
        `pictures.decode.read`.

        Raises:
            DecodingStoppedError: the pool is closed.
        """
        with self._changed:
            if self._closed:
                raise DecodingStoppedError
            pending = Pending(len(loads))
            for position, load in enumerate(loads):
                task = Task(pending, position, load, thumbnails, draft)
                self._line.put(Place(URGENT if urgent else USUAL, next(self._numbers), task))
        return pending

    def pids(self) -> list[int]:
        """The processes that live now."""
        return [feeder.decoder.pid for feeder in self._feeders if feeder.decoder is not None]

    def close(self) -> None:
        """Kill the processes; what was not decoded yet ends with DecodingStoppedError."""
        with self._changed:
            self._closed = True
        for feeder in self._feeders:
            feeder.stop()
        for _ in self._feeders:
            self._line.put(Place(END, next(self._numbers), None))
        for feeder in self._feeders:
            feeder.join()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _report(self, kept: list[str]) -> None:
        with self._changed:
            first, self._reported = not self._reported, True
        if kept and first:
            # decoding goes on: a host that forbids one confinement is still better off with the others
            log.warning("decoder.unconfined", kept=kept)
