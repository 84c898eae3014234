"""Which patch of a checkpoint covers which pixel of a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_PATCH = -1


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """How a checkpoint cuts the square it reads: `rows` x `cols` patches of `patch_size` pixels each.

    The patches begin at the top left of a square of `image_size` pixels and need not fill it: 27 patches of
    14 cover 378 of 384 pixels.

    Raises:
        ValueError: a number below 1, or more patches than the square holds.
    """

    rows: int
    cols: int
    patch_size: int
    image_size: int

    def __post_init__(self) -> None:
        """Refuse a grid that no checkpoint can have."""
        if min(self.rows, self.cols, self.patch_size, self.image_size) < 1:
            raise ValueError(f"A grid's numbers begin at 1: {self}.")
        if max(self.rows, self.cols) * self.patch_size > self.image_size:
            raise ValueError(f"More patches than the square holds: {self}.")


def patches_along(pixels: int, patches: int, patch_size: int, image_size: int) -> NDArray[np.int64]:
    """The patch over the centre of each pixel along one side of a picture: [pixels], -1 where there is none.

    `pixels` is the side of the upright picture at any size; the checkpoint reads it squashed to `image_size`,
    of which the first `patches` x `patch_size` pixels are covered. The centre of pixel x lies at
    (x + 1/2) / pixels of the side. The arithmetic is in whole numbers, so that a centre on the seam of two
    patches belongs to the later one on every machine.
    """
    centres = 2 * np.arange(pixels, dtype=np.int64) + 1
    covering = centres * image_size // (2 * pixels * patch_size)
    return np.where(covering < patches, covering, NO_PATCH)


def covered_side(pixels: int, patches: int, patch_size: int, image_size: int) -> int:
    """How many pixels along one side, from its beginning, have their centre in a patch."""
    return int(np.count_nonzero(patches_along(pixels, patches, patch_size, image_size) != NO_PATCH))
