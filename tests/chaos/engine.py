"""An engine that fails on order: what a text says is what happens to the process that reads it.

Plugged in by `LENSQUEUE_ENGINE=tests.chaos.engine:ChaosEngine`. Orders, as texts of an embedding job:

- `segfault`, `kill`: the process dies of a fatal signal, or of one that nothing in it caused
- `sleep S`: the batch takes so many seconds longer
- `hang`: C code that never returns and never lets another thread of the process run
- `stall`: C code that never returns while the other threads go on
- `memory`, `recursion`, `exit`: MemoryError, endless recursion, SystemExit
- `device memory N`: a batch of more than N texts has no room on the device

`LENSQUEUE_CHAOS_BATCH_MS` is how long any batch takes; while the file `LENSQUEUE_CHAOS_SICK` is there, the
host is sick, and whatever it is given, the canary too, ends as the order in it says.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from engine.errors import OutOfMemoryError

PLUG: Final = f"{__name__}:ChaosEngine"
WIDTH: Final = 4
A_YEAR: Final = 365 * 24 * 3600


class ChaosEngine:
    """Answers every text and picture with the same vector, unless it is told otherwise."""

    def __init__(self, model_name: str, **_: Any) -> None:
        self.device = torch.device("cpu")
        self.batch_seconds = float(os.environ.get("LENSQUEUE_CHAOS_BATCH_MS", "0")) / 1000
        sick = os.environ.get("LENSQUEUE_CHAOS_SICK")
        self.sick = None if sick is None else Path(sick)
        self.provenance: dict[str, Any] = {
            "model": model_name,
            "revision": "chaos",
            "dtype": "float32",
            "loaded_at": time.time(),
            "pixel_path": {"image_size": 8, "resample": "bicubic"},
        }

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        """Vectors [text, width]."""
        for text in texts:
            obey(text, len(texts))
        return self._answer(len(texts))

    def embed_images(self, images: list[Any], **_: Any) -> torch.Tensor:
        """Vectors [image, width]."""
        return self._answer(len(images))

    def _answer(self, count: int) -> torch.Tensor:
        if self.sick is not None and self.sick.exists():
            obey(self.sick.read_text(), count)
        time.sleep(self.batch_seconds)
        return torch.full((count, WIDTH), 0.5)


def obey(text: str, batch: int) -> None:
    """Do what the text says; one that says nothing known is only a text."""
    order, _, rest = text.rpartition(" ")
    if order == "sleep":
        time.sleep(float(rest))
    elif order == "device memory" and batch > int(rest):
        raise OutOfMemoryError
    elif text in ORDERS:
        ORDERS[text]()


def _segfault() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    # as the kernel does where memory runs out
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    # PyDLL keeps the interpreter's lock: the heartbeat's thread stands still too
    ctypes.PyDLL(None).sleep(A_YEAR)


def _stall() -> None:
    ctypes.CDLL(None).sleep(A_YEAR)


def _run_out_of_memory() -> None:
    raise MemoryError


def _recur() -> None:
    _recur()


def _exit() -> None:
    sys.exit(1)


ORDERS: Final[dict[str, Callable[[], None]]] = {
    "segfault": _segfault,
    "kill": _kill,
    "hang": _hang,
    "stall": _stall,
    "memory": _run_out_of_memory,
    "recursion": _recur,
    "exit": _exit,
}
