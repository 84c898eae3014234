"""The reference: the library's own modules, one after the other, in torch."""

from collections.abc import Iterator
from typing import Any

import torch

from engine.residual import stream
from engine.shapes import Hidden, PixelValues


class EagerRuntime:
    """The vision tower as transformers has it, on any device and in any dtype."""

    name = "torch"
    most_images: int | None = None

    def __init__(self, vision: Any) -> None:
        self._vision = vision

    def stream(self, pixel_values: PixelValues) -> Iterator[Hidden]:
        """hidden_states[0..L] as soon as each exists; memory holds one of them."""
        return stream(self._vision, _placed(self._vision, pixel_values))

    def describe(self) -> dict[str, Any]:
        """The precision of float32 products, which a caller may have lowered for the whole process."""
        return {"float32_matmul_precision": torch.get_float32_matmul_precision()}


def _placed(vision: Any, pixel_values: PixelValues) -> PixelValues:
    weight = vision.embeddings.patch_embedding.weight
    return pixel_values.to(weight.device, weight.dtype)
