"""Scenes as pictures, and as masks that say which pixel belongs to which thing."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.Image import Resampling

from demo.outlines import outline
from demo.world import Scene, Thing

GROUND_SIDE: Final = 96  # grounds are drawn this large at most, and enlarged from there
RING_WIDTH: Final = 0.42  # in radii

Pixels = NDArray[np.float32]


def render(scene: Scene, size: int = 80) -> Image.Image:
    """The RGB picture of a scene, `size` x `size`, drawn twice as large and averaged down."""
    enlarge = Resampling.NEAREST if size <= GROUND_SIDE else Resampling.BICUBIC
    picture = _ground(scene, min(size, GROUND_SIDE)).resize((2 * size, 2 * size), enlarge)
    brush = ImageDraw.Draw(picture)
    for thing in scene.things:
        _paint(brush, thing, 2 * size, thing.rgb)
    return picture.reduce(2)


def masks(scene: Scene, size: int = 80) -> NDArray[np.uint8]:
    """Which thing covers which pixel, [size, size]: 0 is ground, k + 1 is `scene.things[k]`."""
    plan = Image.new("L", (size, size))
    brush = ImageDraw.Draw(plan)
    for index, thing in enumerate(scene.things):
        _paint(brush, thing, size, index + 1)
    return np.asarray(plan)


def cover(scene: Scene, size: int, patch: int) -> NDArray[np.float64]:
    """The share of each patch that each thing covers, [thing, size / patch, size / patch].

    `patch` is the side of a patch in pixels and divides `size`.
    """
    grid = size // patch
    plan = masks(scene, size)
    shares = [
        (plan == index + 1).reshape(grid, patch, grid, patch).mean((1, 3))
        for index in range(len(scene.things))
    ]
    return np.stack(shares)


def _paint(brush: ImageDraw.ImageDraw, thing: Thing, size: int, fill: int | tuple[int, int, int]) -> None:
    x, y, radius = thing.x * size, thing.y * size, thing.radius * size
    frame = (x - radius, y - radius, x + radius, y + radius)
    if thing.pair.shape == "circle":
        brush.ellipse(frame, fill=fill)
    elif thing.pair.shape == "ring":
        brush.ellipse(frame, outline=fill, width=max(2, round(radius * RING_WIDTH)))
    else:
        brush.polygon(outline(thing, size), fill=fill)


def _ground(scene: Scene, side: int) -> Image.Image:
    """What lies behind the things: a greyish tone, perhaps a pattern, perhaps grain."""
    rng = np.random.default_rng(scene.seed)
    pixels = np.empty((side, side, 3), np.float32)
    pixels[:] = rng.uniform(75, 185) + rng.uniform(-20, 20, 3)
    _add_pattern(pixels, scene.ground, rng)
    if scene.noisy:
        pixels += rng.standard_normal((side, side, 1), np.float32) * rng.uniform(2, 12)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _add_pattern(pixels: Pixels, busy: float, rng: np.random.Generator) -> None:
    """From calm to busy: nothing, a gradient, stripes, checks, blotches."""
    side = len(pixels)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = rng.uniform(0, 6.3)
    along = (columns - 0.5) * math.cos(angle) + (rows - 0.5) * math.sin(angle)
    if busy > 0.8:
        pixels += _blotches(side, rng) * 0.22 - 28
    elif busy > 0.65:
        across, down = (np.sign(np.sin(axis * rng.uniform(12, 40))) for axis in (columns, rows))
        pixels += (across * down * rng.uniform(5, 16))[..., None]
    elif busy > 0.5:
        pixels += (np.sign(np.sin(along * rng.uniform(12, 60))) * rng.uniform(5, 16))[..., None]
    elif busy > 0.25:
        pixels += (along * rng.uniform(-70, 70))[..., None]


def _blotches(side: int, rng: np.random.Generator) -> Pixels:
    """A few random colours a side, blurred into each other, in 0..255."""
    cells = int(rng.integers(3, 12))
    colours = rng.integers(0, 255, (cells, cells, 3), np.uint8)
    return np.asarray(Image.fromarray(colours).resize((side, side), Resampling.BICUBIC), np.float32)
