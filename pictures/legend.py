"""The strip below a picture that says what its colours mean."""

from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from pictures.colours import Scale
from pictures.lettering import fit, text_width, write

PAPER: Final = "#fbfaf8"
INK: Final = "#1f2328"
MUTED: Final = "#6b7077"

_NARROWEST: Final = 320
_MARGIN: Final = 16
_TEXT_SIZE: Final = 16
_NUMBER_SIZE: Final = 14
_STRIP_HEIGHT: Final = 84
_CAPTION_LINE: Final = 28
_BAR_TOP: Final = 42
_BAR_HEIGHT: Final = 12
_NUMBER_LINE: Final = 72
_GAP: Final = 12
_SUPERSAMPLING: Final = 4


@dataclass(frozen=True, slots=True)
class Legend:
    """What a drawn map shows: its scale, the scores' `unit`, which `layer` it reads and for which `label`.

    `unit` is "cosine" or "difference of cosines", `layer` reads like "layer 6"; `label` is the user's
    own text. `beyond` tells whether scores lie below the scale's low end, and above its high one.
    """

    scale: Scale
    unit: str
    layer: str
    label: str
    beyond: tuple[bool, bool] = (False, False)


def draw_legend(image: Image.Image, legend: Legend) -> Image.Image:
    """The RGB `image` on paper with the legend below it, as a new RGB picture.

    At least 320 pixels wide, so that it can be read below the narrowest picture, which then is centred.
    A label that cannot be written (see `pictures.lettering.writable`) is left out.
    """
    width = max(image.width, _NARROWEST)
    page = Image.new("RGB", (width, image.height + _STRIP_HEIGHT), PAPER)
    page.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(page)
    left, right, top = _MARGIN, width - _MARGIN, image.height
    facts = fit(f"{legend.unit}, {legend.layer}", _NUMBER_SIZE, right - left)
    room = right - left - text_width(facts, _NUMBER_SIZE) - _GAP
    write(draw, (right, top + _CAPTION_LINE), facts, _NUMBER_SIZE, MUTED, "rs")
    write(draw, (left, top + _CAPTION_LINE), fit(legend.label, _TEXT_SIZE, room), _TEXT_SIZE, INK, weight=0.3)
    draw_bar(page, (left, top + _BAR_TOP, right, top + _BAR_TOP + _BAR_HEIGHT), legend.scale)
    write_ends(draw, (left, right, top + _NUMBER_LINE), legend.scale, _NUMBER_SIZE, legend.beyond)
    return page


def draw_bar(page: Image.Image, box: tuple[int, int, int, int], scale: Scale) -> None:
    """Draw the scale's colours from left to right into `box`, with round ends."""
    left, top, right, bottom = box
    colours = Image.fromarray(scale.colours()[None, :, :]).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR
    )
    page.paste(colours, (left, top), rounded_mask(colours.size, (bottom - top) // 2))


def write_ends(
    draw: ImageDraw.ImageDraw,
    line: tuple[float, float, float],
    scale: Scale,
    size: int,
    beyond: tuple[bool, bool] = (False, False),
) -> None:
    """Write the scale's low, middle and high score on a `line`: left, right, baseline.

    An end with scores `beyond` it says so, since they have its colour too.
    """
    left, right, baseline = line
    low = scale.write(scale.low) + " or less" * beyond[0]
    high = scale.write(scale.high) + " or more" * beyond[1]
    write(draw, (left, baseline), low, size, MUTED, "ls")
    write(draw, ((left + right) / 2, baseline), scale.write(scale.middle), size, MUTED, "ms")
    write(draw, (right, baseline), high, size, MUTED, "rs")


def rounded_mask(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask (mode L) of `size` with smooth round corners."""
    width, height = size
    large = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), 0)
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, large.width - 1, large.height - 1), radius * _SUPERSAMPLING, fill=255
    )
    return large.resize(size, Image.Resampling.BOX)
