"""Paint a map of patch scores: alone on transparent ground, or over its picture."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pictures.colours import LEVELS, Scale, UnusableScoresError
from pictures.coverage import PatchGrid, covered_side, patches_along

DISPLAY_SIDE: Final = 512
TRANSPARENT: Final = LEVELS
"""The palette's last entry: the pixels that no patch covers."""

_PIXEL_ART_SIDE: Final = 32
# From this opacity on a picture's own colours are gone, so that they cannot be taken for heat.
_ALL_GREY: Final = 0.75


def heatmap(
    scores: NDArray[np.floating], grid: PatchGrid, size: tuple[int, int], scale: Scale
) -> Image.Image:
    """The map `scores` [row, col] as a palette picture of `size` (width, height), one flat colour a patch.

    It lies pixel for pixel on the upright picture of that size: opaque where a patch covers a pixel's centre,
    transparent (palette entry 255) elsewhere. Laid over the picture at any opacity by whoever shows it.

    Raises:
        UnusableScoresError: a shape that is not the grid's, or a score that is not finite.
    """
    width, height = size
    _check_shape(scores, grid)
    # -1, the index of no patch, picks this frame's last row and column.
    framed = np.full((grid.rows + 1, grid.cols + 1), TRANSPARENT, dtype=np.uint8)
    framed[:-1, :-1] = scale.levels(scores)
    down = patches_along(height, grid.rows, grid.patch_size, grid.image_size)
    across = patches_along(width, grid.cols, grid.patch_size, grid.image_size)
    image = Image.fromarray(framed[np.ix_(down, across)])
    image.putpalette(scale.colours().tobytes() + b"\x00\x00\x00")
    image.info["transparency"] = TRANSPARENT
    return image


def overlay(
    picture: Image.Image,
    scores: NDArray[np.floating],
    grid: PatchGrid,
    scale: Scale,
    opacity: float = 0.6,
    side: int = DISPLAY_SIDE,
) -> Image.Image:
    """The RGB `picture` at its display size with the map `scores` [row, col] over it, as a new RGB picture.

    The longer side becomes `side` pixels. Where patches cover, the picture fades to grey as the heat grows
    opaque, so that every hue seen is the heat's; where none does, the picture stays as it is. `opacity` is 0
    (the picture alone) to 1 (the map alone).

    Raises:
        UnusableScoresError: a shape that is not the grid's, or a score that is not finite.
        ValueError: an opacity outside 0..1.
    """
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"Opacity is 0 to 1, not {opacity}.")
    shown = resize(picture, display_size(*picture.size, side))
    heat = heatmap(scores, grid, shown.size, scale)
    faded = Image.blend(shown, shown.convert("L").convert("RGB"), min(1.0, opacity / _ALL_GREY))
    heated = Image.blend(faded, heat.convert("RGB"), opacity)
    covered = (
        0,
        0,
        covered_side(shown.width, grid.cols, grid.patch_size, grid.image_size),
        covered_side(shown.height, grid.rows, grid.patch_size, grid.image_size),
    )
    shown.paste(heated.crop(covered), covered)
    return shown


def display_size(width: int, height: int, side: int = DISPLAY_SIDE) -> tuple[int, int]:
    """The size at which a picture is shown: its longer side `side` pixels, its aspect kept, none below 1.

    Halves are rounded up, in whole numbers: the same size on every machine.
    """
    longer = max(width, height)
    return (
        max(1, (2 * width * side + longer) // (2 * longer)),
        max(1, (2 * height * side + longer) // (2 * longer)),
    )


def resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The RGB picture at `size`, as a new picture without metadata.

    Shrunk by Lanczos, grown by bicubic (Lanczos rings at hard edges); pixels of tiny pictures stay squares.
    """
    if max(picture.size) <= _PIXEL_ART_SIDE and max(size) > max(picture.size):
        resized = picture.resize(size, Image.Resampling.NEAREST)
    elif max(size) > max(picture.size):
        resized = picture.resize(size, Image.Resampling.BICUBIC)
    else:
        # Before the filter, huge pictures are shrunk by whole factors to at least three times the size.
        resized = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    resized.info.clear()
    return resized


def _check_shape(scores: NDArray[np.floating], grid: PatchGrid) -> None:
    if scores.shape != (grid.rows, grid.cols):
        raise UnusableScoresError(
            f"The grid has {grid.rows} x {grid.cols} patches, they have {scores.shape}."
        )
