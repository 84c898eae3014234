"""One live decoder as the worker sees it: started, fed a picture at a time, and ended by force."""

import json
import math
import mmap
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pictures.decode import MEBIBYTE, Limits
from pictures.errors import (
    ImageEmptyError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnreadableError,
    NotAnImageError,
    PictureError,
)
from worker.errors import DecoderCrashedError, DecoderStartError, ImageTooCostlyError
from worker.frames import ANSWER, MAX_ANSWER_BYTES, REQUEST, Kind, Order, make_slot, slot_bytes

START_SECONDS: Final = 60.0
LIFE_SECONDS: Final = 600.0
"""A decoder that worked for so long is replaced: what codecs leak stays little."""

_KINDS: Final = frozenset(int(kind) for kind in Kind)
_REPOSITORY: Final = Path(__file__).resolve().parents[1]
# No more than Python needs: the worker's own environment holds passwords.
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_FRUGAL: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    # what a picture took is kept for the next one: given back and taken anew, it costs a third of the time
    "MALLOC_MMAP_THRESHOLD_": str(32 * MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": str(96 * MEBIBYTE),
}
_REFUSALS: Final = {
    error.code: error
    for error in (
        ImageEmptyError,
        ImageTooLargeError,
        ImageTruncatedError,
        ImageUnreadableError,
        NotAnImageError,
        DecoderCrashedError,
        ImageTooCostlyError,
    )
}


class DecoderDiedError(Exception):
    """The decoder ended, or answered nonsense, while it held a picture."""


class DecoderLateError(Exception):
    """The decoder took longer than it may; `starved` when it was hardly given a processor."""

    def __init__(self, *, starved: bool) -> None:
        """Keep whether the machine is to blame."""
        super().__init__()
        self.starved = starved


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB bytes `pixels` [3, side, side]; width and height of the upright original; a small JPEG if asked.

    They are the first of so many `frames`, None where that could not be told.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    thumbnail: bytes | None
    frames: int | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool gives to each decoder: the checkpoint's square and filter, and what a picture may cost."""

    side: int
    resample: int
    limits: Limits
    seconds_per_picture: float
    memory_bytes: int


class DecodingProcess:
    """A decoder from its start to `end`; the thread that starts it must outlive it, or it is killed."""

    def __init__(self, terms: Terms) -> None:
        """Start a decoder and wait until it is confined.

        Raises:
            DecoderStartError: it ended, or did not report in time.
        """
        self._terms = terms
        self._busy_seconds = 0.0
        descriptor = make_slot(terms.side)
        self._slot = mmap.mmap(descriptor, slot_bytes(terms.side))
        self._line, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(_order(terms, descriptor), theirs, descriptor)
        except OSError as error:
            self._line.close()
            self._slot.close()
            raise DecoderStartError(str(error)) from error
        finally:
            os.close(descriptor)
        try:
            kind, _, names = self._answer(time.monotonic() + START_SECONDS)
        except (OSError, DecoderDiedError) as error:
            raise DecoderStartError(f"a decoder did not start: status {self.end()}") from error
        assert kind is Kind.READY
        self.kept: list[str] = names.decode().split()
        """What the kernel did not let it give up, see `worker.confinement`."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_spent(self) -> bool:
        """Whether it ended by itself, or worked for as long as one may."""
        return self._process.poll() is not None or self._busy_seconds > LIFE_SECONDS

    def decode(self, data: bytes, *, thumbnail: bool, draft: bool = False) -> Picture:
        """The picture, squashed; a `draft` is decoded at less than its size, see `pictures.decode.read`.

        Raises:
            PictureError: what is wrong with it.
            DecoderDiedError, DecoderLateError: this decoder must be ended; the picture may be at fault.
        """
        seconds = self._terms.seconds_per_picture
        began, began_cpu = time.monotonic(), self._cpu_seconds()
        try:
            self._line.settimeout(seconds)
            self._line.sendall(REQUEST.pack(thumbnail, draft, len(data)))
            self._line.sendall(data)
            kind, (width, height, frames), body = self._answer(began + seconds)
        except TimeoutError:
            raise DecoderLateError(starved=self._cpu_seconds() - began_cpu < seconds / 2) from None
        except OSError as error:
            raise DecoderDiedError from error
        finally:
            self._busy_seconds += time.monotonic() - began
        if kind is Kind.REFUSED:
            raise _refusal(body)
        if kind is not Kind.DECODED:
            raise DecoderDiedError
        side = self._terms.side
        # copied: the slot takes the next picture, and torch wants memory that nobody else writes to
        pixels = np.frombuffer(self._slot, dtype=np.uint8).reshape(3, side, side).copy()
        return Picture(pixels, width, height, body or None, frames or None)

    def kill(self) -> None:
        """Kill it, whatever it does; another thread's `decode` then ends with DecoderDiedError."""
        self._process.kill()

    def end(self) -> int:
        """Kill it and free what it held; returns its status, negative for a signal."""
        self._process.kill()
        status = self._process.wait()
        self._line.close()
        self._slot.close()
        return status

    def _answer(self, deadline: float) -> tuple[Kind, tuple[int, int, int], bytes]:
        number, width, height, frames, length = ANSWER.unpack(self._receive(ANSWER.size, deadline))
        if number not in _KINDS or length > MAX_ANSWER_BYTES:
            raise DecoderDiedError
        return Kind(number), (width, height, frames), self._receive(length, deadline)

    def _receive(self, length: int, deadline: float) -> bytes:
        received = bytearray(length)
        left = memoryview(received)
        while left:
            self._line.settimeout(max(deadline - time.monotonic(), 0.001))
            count = self._line.recv_into(left)
            if count == 0:
                raise DecoderDiedError
            left = left[count:]
        return bytes(received)

    def _cpu_seconds(self) -> float:
        """What it has computed so far, see proc_pid_stat(5); 0 where that cannot be read."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return 0.0
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _order(terms: Terms, descriptor: int) -> Order:
    return Order(
        side=terms.side,
        resample=terms.resample,
        image_bytes=terms.limits.image_bytes,
        pixels=terms.limits.pixels,
        frames=terms.limits.frames,
        memory_bytes=terms.memory_bytes,
        # only for a worker that no longer looks: twice its life, since a codec may use two processors
        cpu_seconds=math.ceil(2 * (LIFE_SECONDS + terms.seconds_per_picture)),
        parent=os.getpid(),
        slot=descriptor,
    )


def _start(order: Order, line: socket.socket, descriptor: int) -> subprocess.Popen[bytes]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "worker.decoder", json.dumps(asdict(order))],
        cwd=_REPOSITORY,
        env=inherited | _FRUGAL,
        stdin=line.fileno(),
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        # a Ctrl-C is for the worker, who ends its decoders when it is done
        start_new_session=True,
    )


def _refusal(body: bytes) -> PictureError:
    code, _, message = body.decode(errors="replace").partition("\n")
    if code not in _REFUSALS:
        raise DecoderDiedError
    error = _REFUSALS[code]()
    error.args = (message,)
    return error
