"""Captions, legends and contact sheets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pictures.colours import Scale, UnusableScoresError
from pictures.coverage import PatchGrid
from pictures.heatmap import overlay
from pictures.legend import PAPER, Legend, draw_legend
from pictures.lettering import ELLIPSIS, caption, fit, text_width, writable
from pictures.sheet import SheetRow, draw_sheet

GRID = PatchGrid(8, 8, 28, 224)
UNIT = Scale(0.0, 1.0)


def ramp(grid: PatchGrid = GRID) -> np.ndarray:
    return np.linspace(0.0, 1.0, grid.rows * grid.cols).reshape(grid.rows, grid.cols)


def photograph(size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(80, 80), (4000, 300), (300, 4000), (1, 900), (8, 8)])
@pytest.mark.parametrize("grid", [GRID, PatchGrid(32, 32, 16, 512)])
def test_a_legend_is_wide_enough_to_read_and_covers_no_picture(
    size: tuple[int, int], grid: PatchGrid
) -> None:
    shown = overlay(photograph(size), ramp(grid), grid, UNIT)
    page = draw_legend(shown, Legend(UNIT, "cosine", "layer 6 of 27", "a cat"))
    assert page.width == max(320, shown.width)
    left = (page.width - shown.width) // 2
    assert page.crop((left, 0, left + shown.width, shown.height)).tobytes() == shown.tobytes()
    strip = np.asarray(page)[shown.height :]
    assert (strip == UNIT.colours()[127]).all(axis=-1).any()


def strip_of(label: str, beyond: tuple[bool, bool] = (False, False)) -> bytes:
    return draw_legend(
        Image.new("RGB", (512, 10)), Legend(UNIT, "cosine", "layer 1 of 2", label, beyond)
    ).tobytes()


def test_a_label_in_a_script_without_letters_here_is_left_out_rather_than_boxed() -> None:
    nothing = strip_of("")
    for label in (
        "猫の写真",
        "قطة",
        "חתול",
        "кошка",
        "γάτα",
        "🐈",
        "a 猫",
        "\ud800",
        "\uffff",
        "\x00\u202e",
        "  ",
    ):
        assert strip_of(label) == nothing
    assert strip_of("cat") != nothing


def test_latin_labels_are_written_without_their_accents() -> None:
    assert writable("Café für zwei \u2013 “naïve” \u00d72") == "Cafe fur zwei - “naive” x2"
    assert writable("Straße, smørrebrød, łódź, \uff46\uff49t") == "Strasse, smorrebrod, lodz, fit"


def test_control_and_direction_marks_are_not_written() -> None:
    assert writable("a\x00 \u202ered\u202c\r\n\tcat\u200b") == "a red cat"


@given(st.text(max_size=60), st.integers(0, 300))
def test_any_label_fits_or_is_left_out(text: str, width: int) -> None:
    line = fit(text, 16, width)
    assert text_width(line, 16) <= width
    whole = writable(text)
    kept = line.removesuffix(ELLIPSIS)
    assert line in ("", whole) or (kept and whole.startswith(kept))


def test_a_thousand_characters_end_in_an_ellipsis() -> None:
    line = fit("word " * 200, 16, 200)
    assert line.endswith("word" + ELLIPSIS) or line[-2].isalpha()
    assert line[-1] == ELLIPSIS
    assert 150 < text_width(line, 16) <= 200
    assert writable("x" * 1000) == "x" * 400 + ELLIPSIS
    assert fit("word", 16, 0) == ""


def test_a_legend_says_that_scores_lie_beyond_its_ends() -> None:
    versions = {strip_of("cat", (low, high)) for low in (False, True) for high in (False, True)}
    assert len(versions) == 4


def row(size: tuple[int, int], layers: int, settle_layer: int | None = None, label: str = "cat") -> SheetRow:
    maps = np.stack([ramp() * layer / layers for layer in range(1, layers + 1)])
    return SheetRow(photograph(size), label, maps, np.linspace(-0.1, 0.4, layers), settle_layer)


@pytest.mark.parametrize("layers", [1, 3, 7, 28])
def test_a_sheet_has_a_column_a_layer_and_room_for_every_shape(layers: int) -> None:
    rows = [
        row((80, 80), layers),
        row((4000, 300), layers, label="猫"),
        row((30, 400), layers, 0, "x" * 1000),
    ]
    sheet = draw_sheet(rows, GRID, UNIT, range(layers))
    taller = draw_sheet([*rows, row((50, 50), layers)], GRID, UNIT, range(layers))
    wider = draw_sheet([row((80, 80), layers + 1)], GRID, UNIT, range(layers + 1))
    assert sheet.mode == "RGB"
    assert taller.width == sheet.width
    assert taller.height - sheet.height > 208
    assert wider.width - sheet.width > 208
    paper = np.asarray(Image.new("RGB", (1, 1), PAPER))[0, 0]
    border = np.concatenate([np.asarray(sheet)[:, :40], np.asarray(sheet)[:, -40:]], axis=1)
    assert (border == paper).all()


def test_a_sheet_marks_the_settle_layer_around_its_cell_only() -> None:
    marked = np.asarray(draw_sheet([row((80, 80), 4, 2)], GRID, UNIT, range(4)), int)
    plain = np.asarray(draw_sheet([row((80, 80), 4)], GRID, UNIT, range(4)), int)
    above_the_foot = slice(0, -240)
    columns = np.flatnonzero((marked != plain).any(axis=2)[above_the_foot].any(axis=0))
    pitch = marked.shape[1] - draw_sheet([row((80, 80), 3)], GRID, UNIT, range(3)).width
    third = marked.shape[1] - 64 - 208 - pitch
    assert third - 9 <= columns.min() < third
    assert third + 208 < columns.max() + 1 <= third + 208 + 9
    assert np.array_equal(
        marked[112 + 40 : 112 + 168, third : third + 208], plain[112 + 40 : 112 + 168, third : third + 208]
    )


def test_a_sheet_of_nothing_or_of_other_layers_is_refused() -> None:
    for rows, layers in (([], [0]), ([row((80, 80), 2)], [0]), ([row((80, 80), 2)], [])):
        with pytest.raises(UnusableScoresError):
            draw_sheet(rows, GRID, UNIT, layers)


@pytest.mark.parametrize(
    ("label", "written"), [("a cat", "a cat"), ("café", "café"), ("青い輪", "label 4"), ("\u202e", "label 4")]
)
def test_a_label_that_cannot_be_drawn_is_named_by_its_place(label: str, written: str) -> None:
    assert caption(label, 4) == written
    assert writable(caption(label, 4))
