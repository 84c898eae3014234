"""An engine that sleeps instead of computing: what is left of the time is the queue's.

Plugged in by `LENSQUEUE_ENGINE=benchmarks.engines:SleepingEngine`; `LENSQUEUE_SLEEP_MS` is how long it takes
for a batch, of any size.
"""

import os
import time
from typing import Any

import torch

WIDTH = 4
SIDE = 8


class SleepingEngine:
    """Answers every text and picture with the same vector, after a while."""

    def __init__(self, model_name: str = "sleeping", **_: Any) -> None:
        self.device = torch.device("cpu")
        self.sleep_seconds = float(os.environ.get("LENSQUEUE_SLEEP_MS", "0")) / 1000
        self.provenance: dict[str, Any] = {
            "model": model_name,
            "revision": "sleeping",
            "dtype": "float32",
            "pixel_path": {"image_size": SIDE, "resample": "bicubic"},
        }

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        """Vectors [text, width]."""
        return self._answer(len(texts))

    def embed_images(self, images: list[Any], **_: Any) -> torch.Tensor:
        """Vectors [image, width]."""
        return self._answer(len(images))

    def _answer(self, count: int) -> torch.Tensor:
        time.sleep(self.sleep_seconds)
        return torch.full((count, WIDTH), 0.5)
