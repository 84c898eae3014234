"""The reference: the library's own modules, one after the other, in torch."""

from collections.abc import Iterator
from typing import Any

from engine.residual import stream
from engine.runtimes.mixed import blocks_of
from engine.shapes import Hidden, PixelValues


class EagerRuntime:
    """The vision tower as transformers has it, on any device."""

    name = "torch"
    most_images: int | None = None

    def __init__(self, vision: Any, dtype: str = "float32") -> None:
        self._vision = vision
        self._blocks = blocks_of(vision, dtype)

    def stream(self, pixel_values: PixelValues) -> Iterator[Hidden]:
        """hidden_states[0..L] as soon as each exists; memory holds one of them."""
        return stream(self._vision, pixel_values.to(self._vision.device), self._blocks)

    def describe(self) -> dict[str, Any]:
        """Nothing beside what holds for every runtime."""
        return {}
