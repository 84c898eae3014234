"""A sheet of patch lenses: a row for each thing of a few scenes, a column for each layer."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo.drawing import render
from demo.recipe.reading import Checkpoint, index_of
from demo.sampling import HeldOut, scenes
from demo.world import HELD_OUT, Scene, label

SEED: Final = 9005
CELL: Final = 132
GAP: Final = 4
CAPTION: Final = 16
TINT: Final = 0.62
# Absolute probabilities, from 0 to 1, so that a heatmap of nothing looks like nothing.
COLOUR_STOPS: Final = np.array([(25, 30, 90), (50, 140, 220), (255, 230, 80), (230, 25, 20)], np.float32)


def draw_sheet(checkpoint: Checkpoint) -> Image.Image:
    """Five scenes of several things and one of a single thing, from a fixed seed."""
    chosen = _choose()
    states = checkpoint.stream(chosen)
    rows = [(index, thing) for index, scene in enumerate(chosen) for thing in scene.things[:2]]
    row_height = CELL + CAPTION + GAP
    size = ((CELL + GAP) * (len(states) + 1), row_height * len(rows))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (index, thing) in enumerate(rows):
        top = row * row_height
        said = checkpoint.pairs[index_of(thing.pair)][None]
        picture = render(chosen[index], CELL)
        held_out = " (held out)" if thing.pair in HELD_OUT else ""
        sheet.paste(picture, (0, top + CAPTION))
        pen.text((2, top + 2), label(thing) + held_out, fill="black")
        for layer, hidden in enumerate(states):
            alone = hidden[index : index + 1]
            heat = torch.sigmoid(checkpoint.score_patches(alone, said)).numpy()
            heat = heat.reshape(checkpoint.grid, checkpoint.grid)
            pooled = torch.sigmoid(checkpoint.score(checkpoint.pool(alone), said)).item()
            left = (layer + 1) * (CELL + GAP)
            tint = Image.fromarray(_colour(heat)).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(Image.blend(picture, tint, TINT), (left, top + CAPTION))
            words = f"layer {layer}: max {heat.max():.2f} all {pooled:.2f}"
            pen.text((left + 2, top + 2), words, fill="black")
    return sheet


def _choose() -> list[Scene]:
    drawn = list(scenes(SEED, 40, held_out=HeldOut.ANY, distinct=True))
    several = [scene for scene in drawn if len(scene.things) > 1]
    single = [scene for scene in drawn if len(scene.things) == 1]
    return several[:5] + single[:1]


def _colour(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values 0..1 [row, column] as RGB bytes, blended between the nearest stops."""
    place = np.clip(heat, 0, 1)[..., None] * (len(COLOUR_STOPS) - 1)
    below = np.clip(place[..., 0].astype(int), 0, len(COLOUR_STOPS) - 2)
    share = place - below[..., None]
    colours: NDArray[np.float32] = COLOUR_STOPS[below] * (1 - share) + COLOUR_STOPS[below + 1] * share
    return colours.astype(np.uint8)
