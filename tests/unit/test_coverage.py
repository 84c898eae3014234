"""Which patch lies on which pixel, to the pixel."""

import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pictures.colours import Scale
from pictures.coverage import NO_PATCH, PatchGrid, covered_side, patches_along
from pictures.decode import decode
from pictures.heatmap import TRANSPARENT, heatmap, overlay

BASE = PatchGrid(14, 14, 16, 224)
SO400M = PatchGrid(27, 27, 14, 384)
ORIENTATION = 0x0112


@given(
    st.integers(1, 700),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 13),
)
def test_every_pixel_has_exactly_the_patch_that_holds_its_centre(
    pixels: int, patches: int, patch_size: int, rest: int
) -> None:
    image_size = patches * patch_size + rest
    found = patches_along(pixels, patches, patch_size, image_size)
    assert found.shape == (pixels,)
    for pixel, patch in enumerate(found):
        centre = Fraction(2 * pixel + 1, 2 * pixels) * image_size
        holding = [p for p in range(patches) if p * patch_size <= centre < (p + 1) * patch_size]
        assert holding == ([] if patch == NO_PATCH else [patch])
    covered = covered_side(pixels, patches, patch_size, image_size)
    assert (found[:covered] != NO_PATCH).all()
    assert (found[covered:] == NO_PATCH).all()


def test_patches_of_16_fill_224_pixels() -> None:
    assert patches_along(224, 14, 16, 224).tolist() == [x // 16 for x in range(224)]


def test_patches_of_14_leave_six_of_384_pixels_bare() -> None:
    found = patches_along(384, 27, 14, 384).tolist()
    assert found == [x // 14 for x in range(378)] + [NO_PATCH] * 6
    # 378/384 of 640 pixels is 630, of 480 it is 472.5: the centre of pixel 472 lies on the edge.
    assert covered_side(640, 27, 14, 384) == 630
    assert covered_side(480, 27, 14, 384) == 472


def test_the_longest_side_of_any_picture_does_not_overflow() -> None:
    side = 20_000_000
    found = patches_along(side, 27, 14, 384)
    assert found[-1] == NO_PATCH
    assert covered_side(side, 27, 14, 384) == 19_687_500


@pytest.mark.parametrize("grid", [(0, 1, 16, 224), (14, 14, 0, 224), (28, 27, 14, 384), (27, 28, 14, 384)])
def test_a_grid_that_no_checkpoint_has_is_refused(grid: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"grid's|patches"):
        PatchGrid(*grid)


def hot_at(row: int, col: int, grid: PatchGrid) -> np.ndarray:
    scores = np.zeros((grid.rows, grid.cols))
    scores[row, col] = 1.0
    return scores


@pytest.mark.parametrize("grid", [BASE, SO400M])
@pytest.mark.parametrize("size", [(640, 480), (300, 1000), (80, 80), (383, 385)])
def test_heat_lies_on_the_pixels_of_its_patch_and_nowhere_else(
    grid: PatchGrid, size: tuple[int, int]
) -> None:
    levels = np.asarray(heatmap(hot_at(3, 5, grid), grid, size, Scale(0.0, 1.0)))
    width, height = size
    assert levels.shape == (height, width)
    for axis, pixels, patch in ((0, height, 3), (1, width, 5)):
        lines = np.flatnonzero((levels == TRANSPARENT - 1).any(axis=1 - axis))
        scale = Fraction(pixels, grid.image_size)
        first, last = patch * grid.patch_size * scale, (patch + 1) * grid.patch_size * scale
        inside = [x for x in range(pixels) if first <= x + Fraction(1, 2) < last]
        assert lines.tolist() == inside
        bare = np.flatnonzero((levels == TRANSPARENT).all(axis=1 - axis))
        end = grid.rows * grid.patch_size * scale
        assert bare.tolist() == [x for x in range(pixels) if x + Fraction(1, 2) >= end]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("grid", [BASE, SO400M])
def test_heat_follows_a_picture_that_its_exif_orientation_turns(orientation: int, grid: PatchGrid) -> None:
    """White lies under one patch of the upright picture; the file stores it turned or mirrored."""
    upright = np.zeros((grid.image_size, grid.image_size * 2), dtype=np.uint8)
    row, col = 2, grid.cols - 1
    tall, wide = grid.patch_size, grid.patch_size * 2
    upright[row * tall : (row + 1) * tall, col * wide : (col + 1) * wide] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(buffer, "PNG", exif=exif)

    picture = decode(buffer.getvalue())
    heat = np.asarray(heatmap(hot_at(row, col, grid), grid, picture.size, Scale(0.0, 1.0)))
    assert np.array_equal(heat == TRANSPARENT - 1, np.asarray(picture.convert("L")) == 255)

    shown = np.asarray(
        overlay(picture, hot_at(row, col, grid), grid, Scale(0.0, 1.0), 1.0, max(picture.size))
    )
    hottest = Scale(0.0, 1.0).colours()[-1]
    assert np.array_equal((shown == hottest).all(axis=-1), upright == 255)
