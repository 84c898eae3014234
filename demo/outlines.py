"""The ten shapes as polygons in a unit frame: centre (0, 0), y down, about 1 from the centre to the rim."""

import math
from typing import Final

from demo.world import Thing

Point = tuple[float, float]

UP: Final = -math.pi / 2


def outline(thing: Thing, size: float) -> list[Point]:
    """Corners of a thing in a picture of `size` pixels: its shape scaled, turned and moved to its place."""
    cos, sin = math.cos(thing.turn), math.sin(thing.turn)
    x, y, radius = thing.x * size, thing.y * size, thing.radius * size
    return [
        (x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos))
        for u, v in UNIT_OUTLINES[thing.pair.shape]
    ]


def box(thing: Thing, size: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in whole pixels of the rectangle around a thing."""
    # Not by way of `outline`: it rounds differently in the last bit, which floor and ceil can make a pixel.
    cos, sin = math.cos(thing.turn), math.sin(thing.turn)
    corners = UNIT_OUTLINES[thing.pair.shape]
    xs = [thing.x + thing.radius * (u * cos - v * sin) for u, v in corners]
    ys = [thing.y + thing.radius * (u * sin + v * cos) for u, v in corners]
    return (
        max(0, math.floor(min(xs) * size)),
        max(0, math.floor(min(ys) * size)),
        min(size, math.ceil(max(xs) * size)),
        min(size, math.ceil(max(ys) * size)),
    )


def _star(corners: int, *radii: float, start: float = UP) -> list[Point]:
    """Corners evenly around the centre, their distances from it taken in turn from `radii`."""
    points = []
    for index in range(corners):
        radius, angle = radii[index % len(radii)], start + 2 * math.pi * index / corners
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _cross(half: float = 0.33) -> list[Point]:
    right = [(half, -1), (half, -half), (1, -half), (1, half), (half, half), (half, 1)]
    return [(-half, -1), *right, (-half, 1), (-half, half), (-1, half), (-1, -half), (-half, -half)]


def _heart() -> list[Point]:
    """The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled and upside down."""
    points = []
    for index in range(36):
        t = 2 * math.pi * index / 36
        height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 1.05, -height / 15.5))
    return points


def _crescent(tip: float = 1.02, inner_tip: float = 1.58) -> list[Point]:
    """A disc less a smaller disc shifted to the right: the outer rim there, the inner rim back."""
    outer = [tip + (2 * math.pi - 2 * tip) * index / 30 for index in range(31)]
    inner = [-inner_tip - (2 * math.pi - 2 * inner_tip) * index / 24 for index in range(25)]
    return [
        *((math.cos(angle), math.sin(angle)) for angle in outer),
        *((0.5 + 0.86 * math.cos(angle), 0.86 * math.sin(angle)) for angle in inner),
    ]


UNIT_OUTLINES: Final[dict[str, list[Point]]] = {
    "circle": _star(48, 1),
    "ring": _star(48, 1),
    "square": _star(4, 1.18, start=-math.pi / 4),
    "triangle": _star(3, 1.2),
    "star": _star(10, 1.18, 0.47),
    "heart": _heart(),
    "cross": _cross(),
    "diamond": [(0, -1.2), (0.72, 0), (0, 1.2), (-0.72, 0)],
    "crescent": _crescent(),
    "arrow": [
        (1.1, 0),
        (0.15, -0.85),
        (0.15, -0.32),
        (-1.05, -0.32),
        (-1.05, 0.32),
        (0.15, 0.32),
        (0.15, 0.85),
    ],
}
