"""The shapes world: what a seed means, and that pictures, masks and labels tell the same story."""

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from demo.drawing import cover, masks, render
from demo.generate import describe, write
from demo.outlines import UNIT_OUTLINES, box
from demo.sampling import GAP, HeldOut, gallery, sample_scene, scenes
from demo.world import COLOURS, HELD_OUT, PAIRS, SHAPES, Pair, Scene, Thing, label

SAMPLES = Path(__file__).resolve().parents[2] / "demo" / "samples"
SAMPLES_SEED = 77


def pixels(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(picture, np.int16)


def chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - scenes, not secrets


def bare(scene: Scene) -> Scene:
    """The same ground with nothing on it."""
    return Scene((), scene.ground, scene.noisy, scene.seed)


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return list(scenes(5, 40))


def test_the_shipped_samples_are_what_their_seed_gives(tmp_path: Path) -> None:
    write(tmp_path, 24, SAMPLES_SEED)
    assert (tmp_path / "labels.csv").read_bytes() == (SAMPLES / "labels.csv").read_bytes()
    made = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in made] == sorted(path.name for path in (SAMPLES / "images").iterdir())
    for path in made:
        ours = pixels(Image.open(path))
        shipped = pixels(Image.open(SAMPLES / "images" / path.name))
        # two versions of a JPEG encoder differ by less, two scenes by far more
        assert np.abs(ours - shipped).mean() < 2


def test_the_tolerance_for_samples_tells_scenes_apart() -> None:
    pictures = [pixels(Image.open(path)) for path in sorted((SAMPLES / "images").iterdir())]
    differences = [np.abs(one - other).mean() for one, other in pairwise(pictures)]
    assert min(differences) > 10


def test_a_seed_gives_the_same_scenes_each_time_and_another_seed_others() -> None:
    assert list(scenes(8, 20)) == list(scenes(8, 20))
    assert list(scenes(8, 20)) != list(scenes(9, 20))
    assert list(gallery(8, 20)) == list(gallery(8, 40))[:20]


def test_a_scene_is_drawn_to_the_same_pixels_each_time(drawn: list[Scene]) -> None:
    for scene in drawn[:10]:
        assert render(scene, 96).tobytes() == render(scene, 96).tobytes()


@pytest.mark.parametrize("size", [1, 37, 80, 200])
def test_pictures_and_masks_have_the_size_asked_for(drawn: list[Scene], size: int) -> None:
    picture = render(drawn[0], size)
    assert (picture.mode, picture.size) == ("RGB", (size, size))
    assert masks(drawn[0], size).shape == (size, size)


def test_masked_pixels_have_the_shade_of_their_thing_and_the_others_are_ground(drawn: list[Scene]) -> None:
    for scene in drawn:
        painted, ground, plan = (
            pixels(render(scene, 120)),
            pixels(render(bare(scene), 120)),
            masks(scene, 120),
        )
        assert set(np.unique(plan)) == set(range(len(scene.things) + 1))
        for index, thing in enumerate(scene.things):
            of_thing = painted[plan == index + 1]
            # the rim is blended with the ground, the rest is not
            assert (of_thing == thing.rgb).all(axis=1).mean() > 0.75
        untouched = (painted == ground).all(axis=2)
        assert untouched[plan == 0].mean() > 0.95


def test_most_of_a_mask_stands_out_from_the_ground(drawn: list[Scene]) -> None:
    for scene in drawn:
        changed = (pixels(render(scene, 120)) != pixels(render(bare(scene), 120))).any(axis=2)
        assert changed[masks(scene, 120) > 0].mean() > 0.98


def test_boxes_hold_their_things_tightly(drawn: list[Scene]) -> None:
    size = 320
    for scene in drawn:
        plan = masks(scene, size)
        for index, thing in enumerate(scene.things):
            rows, columns = np.nonzero(plan == index + 1)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract(found, box(thing, size))).max() <= 3


def test_things_keep_apart_and_inside_the_picture(drawn: list[Scene]) -> None:
    crowded = [scene for scene in drawn if len(scene.things) > 1]
    assert len(crowded) > 15
    for scene in drawn:
        for index, one in enumerate(scene.things):
            assert one.radius < min(one.x, one.y)
            assert max(one.x, one.y) < 1 - one.radius
            for other in scene.things[:index]:
                assert math.hypot(one.x - other.x, one.y - other.y) >= (one.radius + other.radius) * GAP


def test_cover_is_the_share_of_each_patch(drawn: list[Scene]) -> None:
    for scene in drawn[:10]:
        shares, plan = cover(scene, 80, 8), masks(scene, 80)
        assert shares.shape == (len(scene.things), 10, 10)
        assert shares[0, 3, 4] == (plan[24:32, 32:40] == 1).mean()
        assert shares.sum() * 64 == (plan > 0).sum()


def test_ten_pairs_are_held_out_one_for_each_colour_and_shape() -> None:
    assert len(PAIRS) == len(set(PAIRS)) == 100
    assert {pair.colour for pair in HELD_OUT} == set(COLOURS)
    assert {pair.shape for pair in HELD_OUT} == set(SHAPES)
    assert len(HELD_OUT) == 10
    assert Pair("red", "triangle") in HELD_OUT


def test_held_out_pairs_are_drawn_only_when_asked_for() -> None:
    def pairs(held_out: HeldOut) -> set[Pair]:
        drawn = scenes(3, 400, held_out=held_out)
        return {thing.pair for scene in drawn for thing in scene.things}

    assert pairs(HeldOut.NEVER) == set(PAIRS) - set(HELD_OUT)
    assert pairs(HeldOut.ONLY) == set(HELD_OUT)
    assert pairs(HeldOut.ANY) == set(PAIRS)
    rng = chance(3)
    assert not any(thing.pair in HELD_OUT for _ in range(200) for thing in sample_scene(rng).things)


def test_pairs_that_are_named_are_shown_in_order() -> None:
    wanted = [Pair("red", "triangle"), Pair("blue", "arrow")]
    rng = chance(4)
    for _ in range(20):
        assert [thing.pair for thing in sample_scene(rng, pairs=wanted).things] == wanted


def test_distinct_scenes_show_no_pair_twice() -> None:
    for scene in scenes(2, 100, things=4, held_out=HeldOut.ONLY, distinct=True):
        names = [thing.pair for thing in scene.things]
        assert len(names) == len(set(names))


def test_easy_scenes_show_fewer_and_larger_things_than_hard_ones() -> None:
    def sizes(level: float) -> tuple[float, float]:
        rng = chance(6)
        drawn = [sample_scene(rng, level) for _ in range(300)]
        radii = [thing.radius for scene in drawn for thing in scene.things]
        return float(np.mean([len(scene.things) for scene in drawn])), float(np.mean(radii))

    (few, large), (many, small) = sizes(0.0), sizes(1.0)
    assert few < 1.3
    assert many > 1.7
    assert large > small


def test_every_shape_has_an_outline_around_its_centre() -> None:
    assert sorted(UNIT_OUTLINES) == sorted(SHAPES)
    for corners in UNIT_OUTLINES.values():
        assert max(math.hypot(*corner) for corner in corners) < 1.25
        assert min(x for x, _ in corners) < 0 < max(x for x, _ in corners)


def test_the_gallery_shows_one_thing_and_now_and_then_more() -> None:
    counts = [len(scene.things) for scene in gallery(1, 12, several_every=3)]
    assert counts == [1, 1, 2, 1, 1, 3, 1, 1, 2, 1, 1, 3]
    assert {len(scene.things) for scene in gallery(1, 30, several_every=0)} == {1}
    assert [len(scene.things) for scene in gallery(1, 4, several_every=1)] == [2, 3, 2, 3]


def test_the_table_says_what_the_scenes_show(tmp_path: Path) -> None:
    write(tmp_path, 7, seed=11, size=64, form="png")
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, scene in zip(rows, gallery(11, 7), strict=True):
        assert Image.open(tmp_path / row["file"]).tobytes() == render(scene, 64).tobytes()
        assert row["label"] == " and ".join(label(thing) for thing in scene.things)
        told = json.loads(row["objects"])
        assert [Pair(one["colour"], one["shape"]) for one in told] == [thing.pair for thing in scene.things]
        assert [one["held_out"] for one in told] == [thing.pair in HELD_OUT for thing in scene.things]


def test_a_label_names_colour_and_shape() -> None:
    ring = Thing(Pair("red", "ring"), x=0.5, y=0.5, radius=0.2, turn=0.0, rgb=(215, 30, 35))
    assert label(ring) == label(ring.pair) == "red ring"
    scene = Scene((ring,), ground=0.1, noisy=False, seed=1)
    assert json.loads(describe(scene, 100)) == [
        {"colour": "red", "shape": "ring", "box": [30, 30, 70, 70], "held_out": False}
    ]
    assert masks(scene, 100)[50, 50] == 0  # a ring has a hole
    assert masks(scene, 100)[50, 33] == 1
