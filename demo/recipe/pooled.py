"""How well the pooled lens names what single things are, and which of several things are there."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from demo.captions import photo_of, with_article
from demo.recipe.axes import Hidden, Scores
from demo.recipe.reading import Checkpoint, index_of, mean
from demo.world import COLOUR_NAMES, PAIRS, SHAPES, Scene

LARGE: Final = 0.16
UNRELATED: Final = [
    "dog",
    "cat",
    "car",
    "house",
    "zebra",
    "astronaut",
    "rocket",
    "coffee",
    "tree",
    "computer",
    "quixotic",
    "refrigerator",
]


def measure_single(
    checkpoint: Checkpoint, scenes: Sequence[Scene], states: Sequence[Hidden]
) -> dict[str, Any]:
    """Accuracy among the hundred pairs, layer by layer and in more detail at the end; one thing a scene."""
    truth = torch.tensor([index_of(scene.things[0].pair) for scene in scenes])
    large = torch.tensor([scene.things[0].radius > LARGE for scene in scenes])
    by_layer = [
        {"layer": layer} | _score_layer(checkpoint.score(checkpoint.pool(hidden), checkpoint.pairs), truth)
        for layer, hidden in enumerate(states)
    ]
    last = checkpoint.pool(states[-1])
    scores = checkpoint.score(last, checkpoint.pairs)
    right = scores.argmax(1) == truth
    shapes = checkpoint.embed(["a photo of " + with_article(shape) for shape in SHAPES])
    colours = checkpoint.embed(["a photo of " + with_article(f"{colour} object") for colour in COLOUR_NAMES])
    colour, shape = truth // len(SHAPES), truth % len(SHAPES)
    of_true = torch.sigmoid(scores.gather(1, truth[:, None])[:, 0])
    return {
        "scenes": len(scenes),
        "top1": by_layer[-1]["top1"],
        "top5": mean((scores.topk(5).indices == truth[:, None]).any(1)),
        "colour": by_layer[-1]["colour"],
        "shape": by_layer[-1]["shape"],
        "top1_large": mean(right[large]),
        "top1_small": mean(right[~large]),
        "shape_caption": mean((last @ shapes.T).argmax(1) == shape),
        "colour_caption": mean((last @ colours.T).argmax(1) == colour),
        "p_true": by_layer[-1]["p_true"],
        "p_other": mean((torch.sigmoid(scores).sum(1) - of_true) / (len(PAIRS) - 1), 4),
        "by_layer": by_layer,
    }


def measure_unrelated(checkpoint: Checkpoint, states: Sequence[Hidden]) -> float:
    """The mean probability of texts about what the world does not have."""
    said = checkpoint.embed(["a photo of " + with_article(word) for word in UNRELATED])
    return mean(torch.sigmoid(checkpoint.score(checkpoint.pool(states[-1]), said)), 4)


def measure_several(
    checkpoint: Checkpoint, scenes: Sequence[Scene], states: Sequence[Hidden]
) -> dict[str, Any]:
    """Present pairs against absent ones, and retrieval by texts that name two things of a scene."""
    last = checkpoint.pool(states[-1])
    above, found = [], []
    for scores, scene in zip(checkpoint.score(last, checkpoint.pairs), scenes, strict=True):
        there = [index_of(thing.pair) for thing in scene.things]
        absent = [index for index in range(len(PAIRS)) if index not in there]
        above.append(mean(scores[there][:, None] > scores[absent], 9))
        found.append(float(np.mean([top in there for top in scores.topk(len(there)).indices.tolist()])))
    return {
        "scenes": len(scenes),
        "auc": mean(above, 4),
        "r_precision": mean(found),
        **_retrieve(checkpoint, scenes, last),
    }


def _score_layer(scores: Scores, truth: torch.Tensor) -> dict[str, float]:
    top = scores.argmax(1)
    of_true = scores.gather(1, truth[:, None])[:, 0]
    return {
        "top1": mean(top == truth),
        "colour": mean(top // len(SHAPES) == truth // len(SHAPES)),
        "shape": mean(top % len(SHAPES) == truth % len(SHAPES)),
        "z_true": mean(of_true, 2),
        "z_other": mean((scores.sum(1) - of_true) / (scores.shape[1] - 1), 2),
        "p_true": mean(torch.sigmoid(of_true)),
    }


def _retrieve(checkpoint: Checkpoint, scenes: Sequence[Scene], seen: torch.Tensor) -> dict[str, float]:
    """Recall at 1 between scenes and "a photo of a red ring and a blue star"; any true one counts."""
    named = [[thing.pair for thing in scene.things[:2]] for scene in scenes]
    shown = [{thing.pair for thing in scene.things} for scene in scenes]
    cosine = seen @ checkpoint.embed([photo_of(*pairs) for pairs in named]).T
    to_text = [shown[scene].issuperset(named[text]) for scene, text in enumerate(cosine.argmax(1))]
    to_scene = [shown[scene].issuperset(named[text]) for text, scene in enumerate(cosine.argmax(0))]
    return {"two_object_image_to_text_r1": mean(to_text), "two_object_text_to_image_r1": mean(to_scene)}
