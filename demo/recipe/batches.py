"""Training batches: scenes, windows of their patches, texts, and which text is true of which window."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np

from demo.captions import Caption, caption, unrelated
from demo.drawing import cover, render
from demo.recipe.axes import Cover, Labels, ScenePixels, ThingFlags, Window, WindowPatches
from demo.recipe.matching import betraying, encode_things, match
from demo.recipe.stages import Sizes, Stage, difficulty
from demo.sampling import MOST_THINGS, sample_scene
from demo.world import Scene

# A window shows a thing when the thing fills this share of it, or when it holds this share of the thing ...
SURE_OF_WINDOW: Final = 0.35
SURE_OF_THING: Final = 0.5
# ... and does not when both shares are below this; in between it has no label.
TRACE: Final = 0.06
ON_THING: Final = 0.3  # the share of a patch that a window is aimed at


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    `labels` are those of the whole picture, then of its windows: above 0 for a true text, below 0 for
    a false one, 0 for one that is left out; the magnitude is its weight.
    """

    pixels: ScenePixels
    texts: list[str]
    windows: WindowPatches
    labels: Labels


def make_batches(sizes: Sizes, stage: Stage, scenes: int, windows: int) -> Iterator[Batch]:
    """The batches of a stage, each of `scenes` pictures with `windows` windows."""
    rng = Random(stage.seed)
    for step in range(stage.steps):
        yield _make_batch(rng, sizes, stage, step, scenes, windows)


def _make_batch(rng: Random, sizes: Sizes, stage: Stage, step: int, count: int, windows: int) -> Batch:
    level, shape_only = difficulty(stage, step)
    scenes = [sample_scene(rng, level) for _ in range(count)]
    pixels = np.stack([np.asarray(render(scene, sizes.image)) for scene in scenes])
    patches, sure, trace = _draw_windows(rng, scenes, sizes, windows)
    texts = [_draw_text(rng, scenes, shape_only) for _ in range(stage.texts)]
    labels = _label(scenes, sure, trace, texts, stage.betrayal)
    return Batch(pixels, [text.text for text in texts], patches, labels)


def _draw_windows(
    rng: Random, scenes: list[Scene], sizes: Sizes, count: int
) -> tuple[WindowPatches, ThingFlags, ThingFlags]:
    """Windows, and which things each surely shows and which it shows a trace of."""
    patches = np.zeros((len(scenes), count, sizes.grid**2), bool)
    sure = np.zeros((len(scenes), count, MOST_THINGS), bool)
    trace = sure.copy()
    for row, scene in enumerate(scenes):
        shares = cover(scene, sizes.image, sizes.patch)
        for place in range(count):
            window = draw_window(rng, shares)
            inside = shares[:, window].sum(axis=1)
            of_window = inside / window.sum()
            of_thing = inside / np.maximum(shares.sum((1, 2)), 1e-6)
            patches[row, place] = window.reshape(-1)
            sure[row, place, : len(shares)] = (of_window >= SURE_OF_WINDOW) | (of_thing >= SURE_OF_THING)
            trace[row, place, : len(shares)] = (of_window >= TRACE) | (of_thing >= TRACE)
    return patches, sure, trace


def draw_window(rng: Random, shares: Cover) -> Window:
    """A square of 1 to 4 patches a side, more often than not on a thing."""
    grid = shares.shape[-1]
    side = 1 if rng.random() < 0.6 else rng.choice((2, 2, 3, 4))
    left, top = rng.randrange(grid - side + 1), rng.randrange(grid - side + 1)
    if len(shares) and rng.random() < 0.6:
        rows, columns = np.nonzero(shares[rng.randrange(len(shares))] > ON_THING)
        if len(rows):
            aim = rng.randrange(len(rows))
            left = min(max(int(columns[aim]) - rng.randrange(side), 0), grid - side)
            top = min(max(int(rows[aim]) - rng.randrange(side), 0), grid - side)
    window = np.zeros((grid, grid), bool)
    window[top : top + side, left : left + side] = True
    return window


def _draw_text(rng: Random, scenes: list[Scene], shape_only: float) -> Caption:
    if rng.random() < 0.08:
        return unrelated(rng)
    drawn = caption(rng, rng.choice(scenes).things, shape_only)
    return Caption(drawn.text + ".", drawn.claims) if rng.random() < 0.1 else drawn


def _label(
    scenes: list[Scene],
    sure: ThingFlags,
    trace: ThingFlags,
    texts: list[Caption],
    betrayal: tuple[float, float],
) -> Labels:
    """Labels times weights, see `Batch`."""
    things = encode_things(scenes)
    whole = things[:, None, :, 0] >= 0
    sure, trace = np.concatenate([whole, sure], axis=1), np.concatenate([whole, trace], axis=1)
    claims = [text.claims for text in texts]
    true, possible = match(things, sure, claims), match(things, trace, claims)
    betrays = match(things, trace, betraying(claims))
    labels = np.where(true, 1, np.where(possible, 0, -1))
    false_weight, true_weight = betrayal
    weights = np.where(betrays, np.where(true, true_weight, false_weight), 1)
    return (labels * weights).astype(np.float32)
