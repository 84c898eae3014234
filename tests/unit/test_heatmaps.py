"""Colours, heat maps and overlays: what is drawn, and what is refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pictures.colours import LEVELS, Scale, UnusableScoresError
from pictures.coverage import PatchGrid
from pictures.heatmap import display_size, heatmap, overlay
from pictures.png import to_png

GRID = PatchGrid(8, 8, 28, 224)
SO400M = PatchGrid(27, 27, 14, 384)
UNIT = Scale(0.0, 1.0)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def ramp(grid: PatchGrid = GRID) -> np.ndarray:
    return np.linspace(0.0, 1.0, grid.rows * grid.cols).reshape(grid.rows, grid.cols)


def photograph(size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@given(arrays.arrays(np.float64, 6, elements=FINITE), FINITE, FINITE)
def test_a_higher_score_never_has_a_lower_level(scores: np.ndarray, one: float, other: float) -> None:
    levels = Scale(min(one, other), max(one, other)).levels(scores)
    order = np.argsort(scores)
    assert (np.diff(levels[order].astype(int)) >= 0).all()
    assert levels.max() < LEVELS


def test_the_ends_of_a_scale_have_the_ends_of_the_table_and_so_has_what_lies_beyond() -> None:
    assert Scale(-0.2, 0.4).levels(np.array([-9.0, -0.2, 0.1, 0.4, 9.0])).tolist() == [0, 0, 127, 254, 254]
    assert Scale(-1e308, 1e308).levels(np.array([-1e308, 0.0, 1e308])).tolist() == [0, 127, 254]


def test_a_scale_of_one_score_has_the_middle_colour() -> None:
    assert Scale(0.3, 0.3).levels(np.array([0.0, 0.3, 1.0])).tolist() == [127, 127, 127]
    assert Scale.around_zero(0.0).levels(np.zeros(1)).tolist() == [127]


def test_zero_of_a_diverging_scale_is_the_palest_colour() -> None:
    scale = Scale.around_zero(0.35)
    assert scale.levels(np.zeros(1)).tolist() == [127]
    brightness = scale.colours().astype(int).sum(axis=1)
    assert brightness.max() - brightness[127] < 10
    low, high = scale.colours()[40].astype(int), scale.colours()[214].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]


def test_the_sequential_table_grows_lighter_step_by_step() -> None:
    colours = UNIT.colours()
    assert colours.shape == (LEVELS, 3)
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] - luminance[0] > 200


def test_a_scale_can_span_scores() -> None:
    scores = np.array([[-0.25, 0.5]], dtype=np.float16)
    assert Scale.spanning(scores) == Scale(-0.25, 0.5)
    assert Scale.spanning(scores, diverging=True) == Scale(-0.5, 0.5, diverging=True)


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(-0.2, 0.4), ["-0.20", "0.10", "0.40"]),
        (Scale(0.0012, 0.0018), ["0.0012", "0.0015", "0.0018"]),
        (Scale(-0.001, 0.8), ["0.00", "0.40", "0.80"]),
        (Scale(3.0, 3.0), ["3.00", "3.00", "3.00"]),
        (Scale(0.0, 1e308), ["0.00", "5e+307", "1e+308"]),
    ],
)
def test_numbers_have_the_digits_that_their_scale_needs(scale: Scale, texts: list[str]) -> None:
    assert [scale.write(score) for score in (scale.low, scale.middle, scale.high)] == texts


@pytest.mark.parametrize(
    "ends", [(0.0, float("nan"), False), (-float("inf"), 0.0, False), (1.0, 0.0, False), (-1.0, 0.5, True)]
)
def test_a_scale_without_order_is_refused(ends: tuple[float, float, bool]) -> None:
    with pytest.raises(UnusableScoresError):
        Scale(*ends)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    scores = ramp()
    scores[3, 3] = bad
    with pytest.raises(UnusableScoresError, match="infinite or not a number") as refusal:
        heatmap(scores, GRID, (64, 64), UNIT)
    assert refusal.value.code == "scores-unusable"
    with pytest.raises(UnusableScoresError):
        Scale.spanning(scores)
    with pytest.raises(UnusableScoresError):
        Scale.spanning(np.zeros((0, 4)))


def test_a_map_of_another_grid_is_refused() -> None:
    with pytest.raises(UnusableScoresError, match="8 x 8"):
        heatmap(ramp(SO400M), GRID, (64, 64), UNIT)


def test_a_heat_map_is_opaque_over_patches_and_clear_elsewhere() -> None:
    stored = Image.open(io.BytesIO(to_png(heatmap(ramp(SO400M), SO400M, (384, 384), UNIT))))
    assert stored.mode == "P"
    pixels = np.asarray(stored.convert("RGBA"))
    assert (pixels[:378, :378, 3] == 255).all()
    assert (pixels[378:, :, 3] == 0).all()
    assert (pixels[:, 378:, 3] == 0).all()
    assert pixels[0, 0, :3].tolist() == UNIT.colours()[0].tolist()
    assert pixels[377, 377, :3].tolist() == UNIT.colours()[-1].tolist()


@pytest.mark.parametrize("grid", [GRID, SO400M, PatchGrid(32, 32, 16, 512)])
def test_a_heat_map_is_small_at_any_size(grid: PatchGrid) -> None:
    assert len(to_png(heatmap(ramp(grid), grid, (4000, 3000), UNIT))) < 60_000


def test_the_same_picture_gives_the_same_file() -> None:
    first, second = (to_png(heatmap(ramp(), GRID, (200, 100), UNIT)) for _ in range(2))
    assert first == second
    noted = photograph((30, 20))
    plain = to_png(noted)
    noted.info.update(icc_profile=b"profile", dpi=(72, 72), comment=b"me")
    assert to_png(noted) == plain


def test_an_overlay_without_opacity_is_the_picture_and_with_all_of_it_the_map() -> None:
    picture = photograph((384, 384))
    clear = overlay(picture, ramp(SO400M), SO400M, UNIT, 0.0, 384)
    assert clear.tobytes() == picture.tobytes()
    full = np.asarray(overlay(picture, ramp(SO400M), SO400M, UNIT, 1.0, 384))
    heat = np.asarray(heatmap(ramp(SO400M), SO400M, (384, 384), UNIT).convert("RGB"))
    assert np.array_equal(full[:378, :378], heat[:378, :378])
    assert np.array_equal(full[378:], np.asarray(picture)[378:])
    assert np.array_equal(full[:, 378:], np.asarray(picture)[:, 378:])


def test_an_overlay_leaves_its_picture_alone() -> None:
    picture = photograph((512, 256))
    before = picture.tobytes()
    assert overlay(picture, ramp(), GRID, UNIT).size == (512, 256)
    assert picture.tobytes() == before
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="Opacity"):
            overlay(picture, ramp(), GRID, UNIT, opacity)


@pytest.mark.parametrize("ground", ["white", "black"])
def test_high_and_low_scores_differ_on_light_and_dark_pictures(ground: str) -> None:
    shown = np.asarray(overlay(Image.new("RGB", (80, 80), ground), ramp(), GRID, UNIT).convert("L"), int)
    assert shown[-1, -1] - shown[0, 0] > 100


def test_the_display_size_keeps_the_aspect_and_never_loses_a_side() -> None:
    assert display_size(640, 480) == (512, 384)
    assert display_size(80, 80) == (512, 512)
    assert display_size(4000, 300) == (512, 38)
    assert display_size(1, 65000) == (1, 512)
    assert display_size(3, 2, 1) == (1, 1)
