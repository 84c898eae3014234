"""What runs the vision tower: one seam for all of them, hidden states in their order."""

from collections.abc import Iterator
from typing import Any, Protocol

from engine.shapes import Hidden, PixelValues


class Runtime(Protocol):
    """A way to run the blocks of a checkpoint's vision tower.

    Everything that a lens reads, it reads of the hidden states, by the same code whatever made them: a
    runtime cannot get a formula of the lens wrong, only a hidden state, and that is measured at start-up.
    """

    name: str
    most_images: int | None
    """A batch may hold so many pictures, None: as many as the device has room for."""

    def stream(self, pixel_values: PixelValues) -> Iterator[Hidden]:
        """hidden_states[0..L] of one batch, in the order of the layers.

        A state is valid until the next batch is begun; whoever keeps it copies it.
        """

    def describe(self) -> dict[str, Any]:
        """For provenance: versions and settings that change bits."""
