"""torch.compile: the fast path on a GPU."""

from collections.abc import Iterator
from typing import Any, Final

import torch

from engine.residual import embed_patches
from engine.runtimes.mixed import blocks_of
from engine.shapes import Hidden, PixelValues

LARGEST_BUCKET: Final = 512
RECOMPILE_LIMIT: Final = 128
"""Ten sizes, and room for other checkpoints."""


class CompiledRuntime:
    """The encoder's blocks, compiled for a few batch sizes: a batch is filled up to the next power of two.

    Blocks are compiled one by one, so that their common code is compiled once and each hidden state can be
    read between them. Filling up costs less than compiling, tens of seconds, for every size that comes.
    """

    name = "compiled"
    most_images: int | None = LARGEST_BUCKET

    def __init__(self, vision: Any, dtype: str) -> None:
        self._vision = vision
        # by default what is compiled for more than eight sizes runs as it is, without a word; blocks share
        # their code, with those of other checkpoints of this process too
        self._blocks: list[Any] = [
            torch.compile(  # type: ignore[call-overload]  # torch's own types do not know the limit
                block, dynamic=False, recompile_limit=RECOMPILE_LIMIT
            )
            for block in blocks_of(vision, dtype)
        ]

    @torch.no_grad()
    def stream(self, pixel_values: PixelValues) -> Iterator[Hidden]:
        """hidden_states[0..L] as soon as each exists; memory holds one of them."""
        count = len(pixel_values)
        hidden = embed_patches(self._vision, _fill_up(pixel_values.to(self._vision.device)))
        yield hidden[:count]
        for block in self._blocks:
            hidden = block(hidden, None)
            yield hidden[:count]

    def describe(self) -> dict[str, Any]:
        """What a batch is filled up to changes bits."""
        return {"buckets": "powers of two"}


def bucket(count: int) -> int:
    """The batch size that `count` pictures are filled up to."""
    return 1 << (count - 1).bit_length()


def _fill_up(pixel_values: PixelValues) -> PixelValues:
    missing = bucket(len(pixel_values)) - len(pixel_values)
    return torch.cat([pixel_values, pixel_values.new_zeros((missing, *pixel_values.shape[1:]))])
