"""The demo checkpoint on its sample pictures: what the quickstart promises."""

import numpy as np
import pytest
from PIL import Image

from engine.siglip import SiglipEngine
from tests.numerics.checkpoints import COLOURS, SHAPES

PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]

Scenes = list[tuple[Image.Image, str]]


def single(scenes: Scenes) -> Scenes:
    return [(picture, label) for picture, label in scenes if label in PAIRS]


@pytest.mark.parametrize("template", ["This is a photo of {}.", "a photo of a {}"])
def test_single_objects_are_named_among_a_hundred_pairs(
    demo: SiglipEngine, scenes: Scenes, template: str
) -> None:
    chosen = single(scenes)
    lens = demo.lens([picture for picture, _ in chosen], PAIRS, template=template)
    right = [PAIRS[top] == label for top, (_, label) in zip(lens.top[:, -1], chosen, strict=True)]
    assert (sum(right), len(right)) == (18, 20)
    truth = [PAIRS.index(label) for _, label in chosen]
    assert lens.final_match_probability[np.arange(len(truth)), truth].mean() > 0.75
    assert lens.final_match_probability.mean() < 0.05


def test_the_lens_sees_colour_early_and_the_pair_late(demo: SiglipEngine, scenes: Scenes) -> None:
    chosen = single(scenes)
    lens = demo.lens([picture for picture, _ in chosen], PAIRS)
    labels = [label for _, label in chosen]

    def accuracy(layer: int, word: int) -> float:
        names = [PAIRS[top].split()[word] for top in lens.top[:, layer]]
        return float(
            np.mean([name == label.split()[word] for name, label in zip(names, labels, strict=True)])
        )

    assert accuracy(0, 0) < 0.5
    assert accuracy(4, 0) >= 0.9
    assert accuracy(4, 1) < accuracy(6, 1)
    assert lens.settle_layer is not None
    assert lens.settle_layer.max() <= demo.config.layers
    for settled, top in zip(lens.settle_layer, lens.top, strict=True):
        assert (top[settled:] == top[-1]).all()
        assert settled == 0 or top[settled - 1] != top[-1]


def test_unrelated_words_match_nothing(demo: SiglipEngine, scenes: Scenes) -> None:
    lens = demo.lens([picture for picture, _ in scenes], ["zebra", "train", "kitchen"])
    assert lens.final_match_probability.max() < 0.2


def test_the_demo_says_what_its_readme_says(demo: SiglipEngine) -> None:
    config = demo.config
    assert (config.img_size, config.patch_size, config.grid) == (80, 8, (10, 10))
    assert (config.layers, config.text_layers, config.hidden_size) == (6, 3, 128)
    assert config.logit_scale == pytest.approx(22.72, abs=0.01)
    assert config.logit_bias == pytest.approx(-5.11, abs=0.01)
    assert sum(parameter.numel() for parameter in demo.model.parameters()) == 1906306
