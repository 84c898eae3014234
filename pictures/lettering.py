"""Write on pictures with the font that comes with Pillow (Aileron, CC0), which has little more than ASCII."""

import unicodedata
from functools import cache
from typing import Final

from PIL import ImageDraw, ImageFont

ELLIPSIS: Final = "…"

_LONGEST: Final = 400
_PROBE_SIZE: Final = 20
_NO_CHARACTER: Final = "\uffff"
# Letters that Unicode does not take apart, and signs that have a twin in every font.
_TWINS: Final = str.maketrans(
    {
        "ß": "ss",
        "ẞ": "SS",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "đ": "d",
        "Đ": "D",
        "ł": "l",
        "Ł": "L",
        "\u0131": "i",  # dotless i
        "\u2010": "-",  # hyphens and dashes
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",  # minus
        "\u00d7": "x",  # multiplication sign
    }
)


def writable(text: str) -> str:
    """The text in characters that can be drawn, or "" where its script cannot.

    Runs of white space become one space, control and direction marks go, Latin letters lose their accents
    (cafe for café): a caption only, the label itself stands in the results. One character of another script
    gives up the whole text, since half a word is another word. Reads at most 400 characters.
    """
    spaced = " ".join(text[:_LONGEST].split())
    apart = unicodedata.normalize("NFKD", spaced.translate(_TWINS)).translate(_TWINS)
    plain = "".join(one for one in apart if unicodedata.category(one) not in ("Mn", "Cc", "Cf"))
    if not all(map(_has_glyph, plain)):
        return ""
    plain = " ".join(plain.split())
    return plain + ELLIPSIS if plain and len(text) > _LONGEST else plain


def caption(label: str, place: int) -> str:
    """What to write of a label: its text, or its place among the labels where its script has no glyphs."""
    return label if writable(label) else f"label {place}"


def fit(text: str, size: int, width: float) -> str:
    """`text` as `writable`, cut with an ellipsis to `width` pixels at font `size`; "" if nothing fits."""
    plain = writable(text)
    if text_width(plain, size) <= width:
        return plain
    keep, too_many = 0, len(plain)
    while too_many - keep > 1:
        middle = (keep + too_many) // 2
        if text_width(plain[:middle].rstrip() + ELLIPSIS, size) <= width:
            keep = middle
        else:
            too_many = middle
    return plain[:keep].rstrip() + ELLIPSIS if keep else ""


def text_width(text: str, size: int) -> float:
    """How far `text` runs, in pixels."""
    return font(size).getlength(text)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: str,
    anchor: str = "ls",
    weight: float = 0.0,
) -> None:
    """Draw `text`, already `writable`, with Pillow's `anchor` at a point; `weight` thickens it, in pixels."""
    draw.text(at, text, fill=colour, font=font(size), anchor=anchor, stroke_width=weight)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The bundled font at `size` pixels.

    Raises:
        RuntimeError: this Pillow was built without FreeType.
    """
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Captions need a Pillow with FreeType.")  # noqa: TRY004 - a fault of the installation
    return loaded


@cache
def _has_glyph(character: str) -> bool:
    # The font draws one and the same box for everything it lacks.
    mask, missing = (font(_PROBE_SIZE).getmask(one) for one in (character, _NO_CHARACTER))
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))
