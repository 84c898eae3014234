"""The words of the shapes world: ten colours, ten shapes, a scene and the things in it.

Lengths are in units of the picture's side, x to the right and y down from the top left, so that a scene can
be drawn at any size.
"""

from dataclasses import dataclass
from typing import Final

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (215, 30, 35),
    "orange": (245, 135, 20),
    "yellow": (245, 228, 40),
    "green": (30, 150, 55),
    "cyan": (40, 205, 215),
    "blue": (30, 70, 215),
    "purple": (125, 40, 165),
    "pink": (250, 135, 190),
    "white": (250, 250, 250),
    "black": (12, 12, 14),
}
COLOUR_NAMES: Final = tuple(COLOURS)
SHAPES: Final = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "ring",
    "cross",
    "diamond",
    "crescent",
    "arrow",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A colour and a shape: what a picture can show and a label can name."""

    colour: str
    shape: str


PAIRS: Final = tuple(Pair(colour, shape) for colour in COLOURS for shape in SHAPES)

# Ten of the hundred, one for each colour and one for each shape, that no training picture or caption holds:
# whoever names them has put colour and shape together.
HELD_OUT: Final = tuple(
    Pair(colour, SHAPES[(3 * index + 2) % len(SHAPES)]) for index, colour in enumerate(COLOURS)
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape: its pair, centre, radius, turn in radians, and the shade it is painted in."""

    pair: Pair
    x: float
    y: float
    radius: float
    turn: float
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Scene:
    """Things on a ground, and all that chance decided: the same scene is drawn to the same pixels.

    `things` do not touch. `ground` in 0..1 says how busy the ground is, `noisy` whether grain lies over it,
    `seed` fixes the rest of it.
    """

    things: tuple[Thing, ...]
    ground: float
    noisy: bool
    seed: int


def label(shown: Thing | Pair) -> str:
    """What it is called: "red ring"."""
    pair = shown.pair if isinstance(shown, Thing) else shown
    return f"{pair.colour} {pair.shape}"
