"""An engine that fails on order: what a text says is what happens when it is embedded.

Plugged in by `LENSQUEUE_ENGINE=tests.engines:TroubledEngine`. A text is a command and its arguments:
`sleep SECONDS`, `signal NUMBER`, `hang FILE`, `raise NAME FILE`; with a FILE it happens once, and the file is
made. Any other text is embedded.
"""

import ctypes
import os
import time
from pathlib import Path
from typing import Any, Final

import torch

from engine.errors import OutOfMemoryError
from worker.canary import TEXT

ERRORS: Final[dict[str, BaseException]] = {
    "memory": MemoryError(),
    "recursion": RecursionError(),
    "exit": SystemExit(1),
    "device-memory": OutOfMemoryError("the device is full"),
}
WIDTH: Final = 4


class TroubledEngine:
    """Answers with ones, unless it is told otherwise."""

    def __init__(self, model_name: str, *, dtype: str, **_: Any) -> None:
        self.device = torch.device("cpu")
        self.dtype = dtype
        self.provenance: dict[str, Any] = {
            "model": model_name,
            "revision": None,
            "dtype": dtype,
            "pixel_path": {"image_size": 32, "resample": "bilinear"},
        }

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        for each in texts:
            obey(each)
        return torch.ones(len(texts), WIDTH)

    def embed_images(self, images: list[Any], **_: Any) -> torch.Tensor:
        return torch.ones(len(images), WIDTH)


class SickEngine(TroubledEngine):
    """Gives other numbers each time."""

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        assert texts == [TEXT], "a sick worker was given work"
        return torch.rand(len(texts), WIDTH)


def obey(text: str) -> None:
    """Do what a text says."""
    match text.split():
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["signal", number]:
            os.kill(os.getpid(), int(number))
        case ["hang", file] if _first(file):
            # called so, C code keeps the interpreter's lock: no thread of the process runs any more
            ctypes.PyDLL(None).sleep(600)
        case ["raise", name, file] if _first(file):
            raise ERRORS[name]


def _first(file: str) -> bool:
    try:
        Path(file).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
