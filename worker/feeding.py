"""The thread that feeds one decoder, replaces it when it dies, and decides whether a picture is to blame."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from worker.decoding_process import (
    DecoderDiedError,
    DecoderLateError,
    DecodingProcess,
    Picture,
    Terms,
)
from worker.errors import DecoderCrashedError, ImageTooSlowError

log = structlog.get_logger()


class DecodingStoppedError(RuntimeError):
    """The pool was closed, or these pictures called back, before this one was decoded."""


class Pending:
    """Pictures that were handed in together."""

    def __init__(self, count: int) -> None:
        self._outcomes: list[Picture | Exception] = [DecodingStoppedError()] * count
        self._left = count
        self._changed = threading.Condition()
        self.cancelled = False

    @property
    def left(self) -> int:
        """How many are not decoded yet."""
        return self._left

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for all of them; False when the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._left == 0, seconds)

    def result(self) -> list[Picture | Exception]:
        """Wait for all of them; each, in order, is a picture or what prevented it."""
        self.wait()
        return self._outcomes

    def cancel(self) -> None:
        """Begin no more of them: `result` then gives DecodingStoppedError for the others."""
        self.cancelled = True

    def keep(self, position: int, outcome: Picture | Exception) -> None:
        """Called by the feeders, once for each."""
        with self._changed:
            self._outcomes[position] = outcome
            self._left -= 1
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Task:
    """One picture that waits for a decoder."""

    pending: Pending
    position: int
    load: Callable[[], bytes]
    thumbnail: bool
    draft: bool


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the line of tasks; the line ends with one without a task."""

    rank: int
    number: int
    task: Task | None = field(compare=False)


class Feeder(threading.Thread):
    """Takes tasks until the line ends."""

    def __init__(
        self,
        terms: Terms,
        line: queue.PriorityQueue[Place],
        report_kept: Callable[[list[str]], None],
    ) -> None:
        super().__init__(name="decoding", daemon=True)
        self.decoder: DecodingProcess | None = None
        self._terms = terms
        self._line = line
        self._report_kept = report_kept
        self._stopping = False

    def run(self) -> None:
        """Decode, with a decoder that is ready before a picture comes."""
        self._prepare()
        while (task := self._line.get().task) is not None:
            task.pending.keep(task.position, self._outcome(task))
            self._prepare()
        self._replace()

    def stop(self) -> None:
        """End what is being decoded, and decode no more."""
        self._stopping = True
        decoder = self.decoder
        if decoder is not None:
            decoder.kill()

    def _outcome(self, task: Task) -> Picture | Exception:
        try:
            if self._stopping or task.pending.cancelled:
                return DecodingStoppedError()
            return self._decode(task.load(), thumbnail=task.thumbnail, draft=task.draft)
        except Exception as error:  # noqa: BLE001 - it is the caller's, who waits in another thread
            return error

    def _decode(self, data: bytes, *, thumbnail: bool, draft: bool, again: bool = False) -> Picture:
        """The picture; one that ends or outwaits its decoder has a second, fresh one before it is blamed."""
        try:
            return self._ready().decode(data, thumbnail=thumbnail, draft=draft)
        except DecoderCrashedError as fault:
            log.exception("decoder.fault", error=str(fault))
            raise DecoderCrashedError from fault
        except DecoderDiedError as died:
            log.warning("decoder.died", status=self._replace(), again=again)
            self._check_stopping()
            if again:
                raise DecoderCrashedError from died
        except DecoderLateError as late:
            log.warning("decoder.late", status=self._replace(), starved=late.starved, again=again)
            self._check_stopping()
            if again or not late.starved:
                raise ImageTooSlowError(f"The limit is {self._terms.seconds_per_picture:g} s.") from late
        return self._decode(data, thumbnail=thumbnail, draft=draft, again=True)

    def _check_stopping(self) -> None:
        if self._stopping:
            raise DecodingStoppedError

    def _prepare(self) -> None:
        try:
            if not self._stopping:
                self._ready()
        except Exception:
            # the next picture tries again, and tells whoever asked for it
            log.exception("decoder.start_failed")

    def _ready(self) -> DecodingProcess:
        if self.decoder is not None and self.decoder.is_spent:
            self._replace()
        if self.decoder is None:
            self.decoder = DecodingProcess(self._terms)
            self._report_kept(self.decoder.kept)
        return self.decoder

    def _replace(self) -> int | None:
        """End the decoder, whose successor starts with the next picture; returns its status."""
        decoder, self.decoder = self.decoder, None
        return None if decoder is None else decoder.end()
