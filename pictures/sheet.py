"""A contact sheet: pictures down the side, layers across, the patch lens of one label in each cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pictures.colours import Scale, UnusableScoresError
from pictures.coverage import PatchGrid
from pictures.heatmap import display_size, overlay, resize
from pictures.legend import INK, MUTED, PAPER, draw_bar, rounded_mask, write_ends
from pictures.lettering import fit, write

# Twice the size at which it is read, so that letters stay sharp on dense screens.
_CELL: Final = 208
_GAP: Final = 18
_FIRST_GAP: Final = 40
_MARGIN: Final = 64
_HEAD: Final = 48
_CAPTION: Final = 54
_ROW_GAP: Final = 26
_FOOT: Final = 136
_WORDS: Final = 100
_WIDE: Final = 5
_RADIUS: Final = 14
_RING: Final = 5
_RING_GAP: Final = 4
_TEXT: Final = 26
_BAR_HEIGHT: Final = 20
_BAR_CELLS: Final = 3
_RULE: Final = "#e4e1db"
_ACCENT: Final = "#0b7285"


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One line of the sheet: an upright RGB `picture`, a `label`, and the label's scores.

    `maps` [layer, row, col] are its patch lenses, `pooled` [layer] its pooled lens. From `settle_layer` on
    the label on top stays; None marks nothing.
    """

    picture: Image.Image
    label: str
    maps: NDArray[np.floating]
    pooled: NDArray[np.floating]
    settle_layer: int | None = None


def draw_sheet(
    rows: Sequence[SheetRow],
    grid: PatchGrid,
    scale: Scale,
    layers: Sequence[int],
    unit: str = "cosine",
) -> Image.Image:
    """The sheet of `rows` as an RGB picture, about 230 pixels a column and 280 a row.

    `layers` names the first axis of every row's maps. One `scale` for all cells, so that they compare; its
    bar stands at the foot, and under each cell the pooled score.

    Raises:
        UnusableScoresError: no rows, maps that do not fit `layers` and `grid`, or scores that are not finite.
    """
    for row in rows:
        _check_row(row, len(layers))
    if not rows or not layers:
        raise UnusableScoresError("A sheet needs a row and a layer.")
    heights = [display_size(*row.picture.size, _CELL)[1] for row in rows]
    width = _column(len(layers)) - _GAP + _MARGIN
    height = _MARGIN + _HEAD + sum(heights) + len(rows) * (_CAPTION + _ROW_GAP) + _FOOT
    height += 0 if len(layers) >= _WIDE else _WORDS
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    for place, layer in enumerate(layers):
        write(draw, (_middle(place), _MARGIN + _HEAD / 2), f"layer {layer}", _TEXT, MUTED, "ms")
    top = _MARGIN + _HEAD
    for row, tall in zip(rows, heights, strict=True):
        _draw_row(page, row, (top, tall), grid, scale, layers)
        top += tall + _CAPTION + _ROW_GAP
    _draw_foot(page, top, scale, unit, rows)
    return page


def _draw_row(
    page: Image.Image,
    row: SheetRow,
    band: tuple[int, int],
    grid: PatchGrid,
    scale: Scale,
    layers: Sequence[int],
) -> None:
    """Draw one line of cells into the `band` (top, height), and the captions under them."""
    draw = ImageDraw.Draw(page)
    top, tall = band
    baseline = top + tall + 38
    _paste(page, resize(row.picture, display_size(*row.picture.size, _CELL)), _MARGIN, top)
    write(draw, (_MARGIN + _CELL / 2, baseline), fit(row.label, _TEXT, _CELL), _TEXT, INK, "ms", 0.5)
    for place, layer in enumerate(layers):
        cell = overlay(row.picture, row.maps[place], grid, scale, side=_CELL)
        settled = layer == row.settle_layer
        left = _column(place)
        if settled:
            _draw_ring(page, left + (_CELL - cell.width) // 2, top, cell.size)
        _paste(page, cell, left, top)
        score = scale.write(float(row.pooled[place]))
        write(
            draw, (_middle(place), baseline), score, _TEXT, _ACCENT if settled else MUTED, "ms", 0.5 * settled
        )


def _draw_foot(page: Image.Image, top: int, scale: Scale, unit: str, rows: Sequence[SheetRow]) -> None:
    """Draw the scale, and beside it (below it on a narrow sheet) the words that explain cells and numbers."""
    draw = ImageDraw.Draw(page)
    edge = page.width - _MARGIN
    draw.line((_MARGIN, top, edge, top), _RULE, 2)
    right = min(_MARGIN + _BAR_CELLS * _CELL, edge)
    beyond = (
        any(bool((row.maps < scale.low).any()) for row in rows),
        any(bool((row.maps > scale.high).any()) for row in rows),
    )
    draw_bar(page, (_MARGIN, top + 38, right, top + 38 + _BAR_HEIGHT), scale)
    write_ends(draw, (_MARGIN, right, top + 92), scale, _TEXT, beyond)
    wide = len(rows[0].maps) >= _WIDE
    left, line = (right + 2 * _FIRST_GAP, top + 57) if wide else (_MARGIN, top + 57 + _WORDS)
    meaning = f"colours: {unit} of each patch; numbers: of the whole picture"
    write(draw, (left, line), fit(meaning, _TEXT, edge - left), _TEXT, INK)
    if any(row.settle_layer is not None for row in rows):
        _draw_ring(page, left + _RING + _RING_GAP, line + 27, (34, 14))
        left += 72
        text = fit("from this layer on, the label stays on top", _TEXT, edge - left)
        write(draw, (left, line + 43), text, _TEXT, _ACCENT)


def _draw_ring(page: Image.Image, left: int, top: int, size: tuple[int, int]) -> None:
    """Draw the mark of the settle layer around the cell of `size` at (left, top)."""
    for colour, reach in ((_ACCENT, _RING + _RING_GAP), (PAPER, _RING_GAP)):
        box = (size[0] + 2 * reach, size[1] + 2 * reach)
        page.paste(
            Image.new("RGB", box, colour), (left - reach, top - reach), rounded_mask(box, _RADIUS + reach)
        )


def _paste(page: Image.Image, cell: Image.Image, left: int, top: int) -> None:
    """Paste a picture with round corners into the middle of the column at `left`."""
    at = (left + (_CELL - cell.width) // 2, top)
    page.paste(cell, at, rounded_mask(cell.size, min(_RADIUS, min(cell.size) // 4)))


def _column(place: int) -> int:
    return _MARGIN + _CELL + _FIRST_GAP + place * (_CELL + _GAP)


def _middle(place: int) -> float:
    return _column(place) + _CELL / 2


def _check_row(row: SheetRow, layers: int) -> None:
    axes = ("layer", "row", "col")
    if row.maps.ndim != len(axes) or len(row.maps) != layers or row.pooled.shape != (layers,):
        raise UnusableScoresError(f"{layers} layers, maps {row.maps.shape}, pooled {row.pooled.shape}.")
