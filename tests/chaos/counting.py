"""The engine itself, which notes every picture that it is given in a file: what was computed, how often.

Plugged in by `LENSQUEUE_ENGINE=tests.chaos.counting:CountingEngine`; `LENSQUEUE_CHAOS_COUNTED` names the
file, `LENSQUEUE_CHAOS_PICTURE_MS` says how much longer than it is each picture takes.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from engine.lens import Lens
from engine.siglip import SiglipEngine

PLUG: Final = f"{__name__}:CountingEngine"


class CountingEngine(SiglipEngine):
    """A SiglipEngine whose lens leaves a line for each picture of a set.

    Of those the embeddings of all layers are asked for, and not of a picture whose map is to be drawn.
    """

    def lens(self, images: Sequence[torch.Tensor], *rest: Any, **options: Any) -> Lens:  # type: ignore[override]
        """As it is; the lines are written before, so that what a killed process began counts too."""
        if "embeddings" not in options["outputs"]:
            return super().lens(images, *rest, **options)
        lines = [hashlib.sha256(image.numpy().tobytes()).hexdigest() + "\n" for image in images]
        with Path(os.environ["LENSQUEUE_CHAOS_COUNTED"]).open("a", encoding="ascii") as file:
            file.write("".join(lines))
        time.sleep(len(lines) * float(os.environ["LENSQUEUE_CHAOS_PICTURE_MS"]) / 1000)
        return super().lens(images, *rest, **options)


def env_of(counted: Path, picture_ms: int) -> dict[str, str]:
    """What a service is told that is to use it."""
    return {
        "LENSQUEUE_ENGINE": PLUG,
        "LENSQUEUE_CHAOS_COUNTED": str(counted),
        "LENSQUEUE_CHAOS_PICTURE_MS": str(picture_ms),
    }


def counted(file: Path) -> Counter[str]:
    """How often each picture was given to the engine."""
    return Counter(file.read_text(encoding="ascii").splitlines())
