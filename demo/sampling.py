"""Scenes drawn from seeded chance.

The order of the draws is part of what a seed means: the shipped samples and the figures of the model card
come from these seeds, so whatever changes the order changes them all.
"""

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from random import Random
from typing import Final

from demo.world import COLOUR_NAMES, COLOURS, HELD_OUT, SHAPES, Pair, Rgb, Scene, Thing

MOST_THINGS: Final = 4
GAP: Final = 1.12  # centres of two things are this many times the sum of their radii apart, or more
MARGIN: Final = 0.02
TRIES: Final = 400
TRIES_FOR_LARGE: Final = 250  # a crowded scene is filled up with small things
SHADE: Final = 16  # how far each channel of a thing's colour may be off


class HeldOut(StrEnum):
    """Which pairs may be drawn: none that is held out, only those, or any."""

    NEVER = "never"
    ONLY = "only"
    ANY = "any"


def scenes(
    seed: int,
    count: int,
    *,
    things: int | None = None,
    held_out: HeldOut = HeldOut.ANY,
    distinct: bool = False,
) -> Iterator[Scene]:
    """`count` scenes of the hardest level; the same arguments give the same scenes.

    `things` is how many each shows, None leaves 1 to 4 to chance. `distinct`: no pair twice in a scene.
    """
    rng = Random(seed)
    for _ in range(count):
        yield sample_scene(rng, things=things, held_out=held_out, distinct=distinct)


def gallery(seed: int, count: int, several_every: int = 6) -> Iterator[Scene]:
    """Scenes for demos: one thing each, but every `several_every`-th shows two or three in turn (0: none).

    Seed 77 begins with the shipped samples.
    """
    rng = Random(seed)
    for index in range(count):
        turn, place = divmod(index, several_every) if several_every else (0, index)
        several = several_every > 0 and place == several_every - 1
        things = 2 + turn % 2 if several else 1
        yield sample_scene(rng, things=things, held_out=HeldOut.ANY, distinct=True)


def sample_scene(
    rng: Random,
    level: float = 1.0,
    *,
    things: int | None = None,
    held_out: HeldOut = HeldOut.NEVER,
    distinct: bool = False,
    pairs: Sequence[Pair] | None = None,
) -> Scene:
    """One scene, from `level` 0 (mostly one large thing, a calm ground) to 1.

    `pairs`, when given, says what the scene shows: `things` and `held_out` then say nothing. Where there is
    no room left the scene holds fewer things than asked for.
    """
    wanted = len(pairs) if pairs else things or _draw_count(rng, level)
    placed: list[Thing] = []
    for attempt in range(1, TRIES + 1):
        if len(placed) == wanted:
            break
        pair = pairs[len(placed)] if pairs else _draw_pair(rng)
        if not pairs and not _is_allowed(pair, held_out):
            continue
        if distinct and any(thing.pair == pair for thing in placed):
            continue
        large = rng.random() < 0.9 - 0.35 * level
        radius = _draw_radius(rng, level, large=large and attempt < TRIES_FOR_LARGE)
        x = rng.uniform(radius + MARGIN, 1 - MARGIN - radius)
        y = rng.uniform(radius + MARGIN, 1 - MARGIN - radius)
        if any(math.hypot(x - thing.x, y - thing.y) < (radius + thing.radius) * GAP for thing in placed):
            continue
        turn = _draw_turn(rng, pair.shape)
        placed.append(Thing(pair, x, y, radius, turn, _draw_shade(rng, pair.colour)))
    return Scene(
        things=tuple(placed),
        ground=rng.random() * (0.35 + 0.65 * level),
        noisy=rng.random() < 0.15 + 0.4 * level,
        seed=rng.randrange(1 << 30),
    )


def _draw_count(rng: Random, level: float) -> int:
    """1 to 4 things; the shares go from those of level 0 to those of level 1."""
    ends = zip((0.85, 0.15, 0, 0), (0.4, 0.3, 0.18, 0.12), strict=True)
    weights = [easy + (hard - easy) * level for easy, hard in ends]
    return rng.choices(range(1, MOST_THINGS + 1), weights)[0]


def _draw_pair(rng: Random) -> Pair:
    colour = COLOUR_NAMES[rng.randrange(len(COLOUR_NAMES))]
    return Pair(colour, SHAPES[rng.randrange(len(SHAPES))])


def _is_allowed(pair: Pair, held_out: HeldOut) -> bool:
    return held_out is HeldOut.ANY or (pair in HELD_OUT) == (held_out is HeldOut.ONLY)


def _draw_radius(rng: Random, level: float, *, large: bool) -> float:
    return rng.uniform(0.17, 0.26 + 0.04 * (1 - level)) if large else rng.uniform(0.10, 0.15)


def _draw_turn(rng: Random, shape: str) -> float:
    """A slight tilt; arrows also point any of four ways, crescents open to either side."""
    tilt = rng.uniform(-0.22, 0.22)
    if shape == "arrow":
        return tilt + rng.randrange(4) * math.pi / 2
    return tilt + (rng.randrange(2) * math.pi if shape == "crescent" else 0)


def _draw_shade(rng: Random, colour: str) -> Rgb:
    red, green, blue = (
        int(min(255, max(0, channel + rng.uniform(-SHADE, SHADE)))) for channel in COLOURS[colour]
    )
    return red, green, blue
