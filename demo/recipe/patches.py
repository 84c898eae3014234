"""How well the patch lens points: every patch token alone through the head, against the true masks."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import numpy as np

from demo.drawing import cover
from demo.recipe.axes import Hidden, Numbers, PatchFlags, ThingCover
from demo.recipe.reading import Checkpoint, index_of, mean
from demo.sampling import sample_scene
from demo.world import COLOUR_NAMES, HELD_OUT, SHAPES, Pair, Scene

TOUCHED: Final = 0.05  # a patch is on a thing that covers this share of it,
INSIDE: Final = 0.35  # inside it from this share on,
GROUND: Final = 0.01  # and on the ground below this


def measure_pointing(
    checkpoint: Checkpoint, scenes: Sequence[Scene], states: Sequence[Hidden]
) -> list[dict[str, float]]:
    """For each layer, where the logits of a thing's own pair are high; several things a scene.

    `pointing`: the best patch is on the thing, by `chance` in that share of cases. `auc`: a patch inside
    beats one outside. `z_...`: mean logits inside, on the ground, inside other things.
    """
    covers = [_cover(checkpoint, scene) for scene in scenes]
    rows = []
    for layer, hidden in enumerate(states):
        scores = checkpoint.score_patches(hidden, checkpoint.pairs).numpy()
        told = [
            _point(scores[row][:, index_of(thing.pair)], covers[row], place)
            for row, scene in enumerate(scenes)
            for place, thing in enumerate(scene.things)
        ]
        beside = [(one["z_other"], one["z_in"]) for one in told if "z_other" in one]
        rows.append(
            {
                "layer": layer,
                "pointing": mean([one["hit"] for one in told]),
                "chance": mean([one["chance"] for one in told]),
                "auc": mean([one["auc"] for one in told]),
                "z_in": mean([one["z_in"] for one in told], 2),
                "z_ground": mean([one["z_ground"] for one in told], 2),
                "z_other_object": mean([other for other, _ in beside], 2),
                "named_minus_other": mean([named - other for other, named in beside], 2),
            }
        )
    return rows


def draw_same_colour(count: int, seed: int) -> list[Scene]:
    """Scenes of two seen pairs of one colour, so that colour alone cannot point; a few find no room."""
    rng = Random(seed)
    scenes = []
    for _ in range(count):
        colour = COLOUR_NAMES[rng.randrange(len(COLOUR_NAMES))]
        seen = [Pair(colour, shape) for shape in SHAPES if Pair(colour, shape) not in HELD_OUT]
        scenes.append(sample_scene(rng, pairs=rng.sample(seen, 2)))
    return [scene for scene in scenes if len(scene.things) == 2]


def measure_same_colour(
    checkpoint: Checkpoint, scenes: Sequence[Scene], states: Sequence[Hidden]
) -> list[dict[str, float]]:
    """For each layer, whether a pair's best patch is on its thing rather than the other of that colour."""
    covers = [_cover(checkpoint, scene) for scene in scenes]
    rows = []
    for layer, hidden in enumerate(states):
        scores = checkpoint.score_patches(hidden, checkpoint.pairs).numpy()
        hits, differences = [], []
        for row, scene in enumerate(scenes):
            for place, thing in enumerate(scene.things):
                logits = scores[row][:, index_of(thing.pair)]
                own, other = covers[row][place], covers[row][1 - place]
                hits.append(own[logits.argmax()] > TOUCHED)
                differences.append(logits[_inside(own)].mean() - logits[_inside(other)].mean())
        rows.append({"layer": layer, "pointing": mean(hits), "named_minus_other": mean(differences, 2)})
    return rows


def _point(logits: Numbers, covers: ThingCover, place: int) -> dict[str, Any]:
    own = covers[place]
    inside, outside = _inside(own), own == 0
    others = outside & (np.delete(covers, place, axis=0).max(axis=0) >= INSIDE)
    told = {
        "hit": own[logits.argmax()] > TOUCHED,
        "chance": (own > TOUCHED).mean(),
        "auc": (logits[inside][:, None] > logits[outside]).mean(),
        "z_in": logits[inside].mean(),
        "z_ground": logits[covers.max(axis=0) < GROUND].mean(),
    }
    return told | ({"z_other": logits[others].mean()} if others.any() else {})


def _inside(own: Numbers) -> PatchFlags:
    """The patches that a thing fills well; of a thing too small for that, those it fills best."""
    inside: PatchFlags = own >= min(INSIDE, own.max())
    return inside


def _cover(checkpoint: Checkpoint, scene: Scene) -> ThingCover:
    return cover(scene, checkpoint.side, checkpoint.patch).reshape(len(scene.things), -1)
