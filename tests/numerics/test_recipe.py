"""The demo checkpoint's recipe: its labels are true, its parts are those of the shipped checkpoint."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from demo.captions import Caption, Claim, caption, is_true, unrelated
from demo.drawing import cover
from demo.recipe.batches import Batch, draw_window, make_batches
from demo.recipe.halve import compare, halve
from demo.recipe.matching import betraying, encode_things, match
from demo.recipe.model import build_model, hidden_states, read_windows
from demo.recipe.patches import measure_pointing
from demo.recipe.pooled import measure_single
from demo.recipe.reading import Checkpoint
from demo.recipe.stages import STAGES, Sizes, learning_rate
from demo.recipe.tokenizer import VOCABULARY, build_tokenizer
from demo.recipe.train import train
from demo.sampling import HeldOut, scenes
from demo.world import HELD_OUT, Scene

CHECKPOINT = Path(__file__).resolve().parents[2] / "demo" / "checkpoint"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A model this small is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - training data, not secrets


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return list(scenes(4, 40))


@pytest.fixture(scope="module")
def batch() -> Batch:
    (made,) = make_batches(Sizes(), replace(STAGES[1], steps=1), scenes=8, windows=12)
    return made


def read_card() -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((CHECKPOINT / "eval.json").read_text(encoding="utf-8"))
    return figures


def tell(drawn: Sequence[Scene]) -> list[Caption]:
    rng = chance(5)
    return [caption(rng, scene.things) for scene in drawn] + [unrelated(rng) for _ in range(5)]


def test_the_match_matrix_says_of_each_text_and_scene_whether_it_is_true(drawn: list[Scene]) -> None:
    texts, things = tell(drawn), encode_things(drawn)
    whole = things[:, None, :, 0] >= 0
    matched = match(things, whole, [text.claims for text in texts])[:, 0]
    expected = [[is_true(text, scene.things) for text in texts] for scene in drawn]
    assert matched.tolist() == expected
    assert matched[:, : len(drawn)].diagonal().all()
    assert not matched[:, len(drawn) :].any()


def test_a_window_counts_the_things_it_sees_only(drawn: list[Scene]) -> None:
    texts, things = tell(drawn), encode_things(drawn)
    first = np.zeros((len(drawn), 1, things.shape[1]), bool)
    first[:, :, 0] = True
    matched = match(things, first, [text.claims for text in texts])[:, 0]
    assert matched.tolist() == [[is_true(text, scene.things[:1]) for text in texts] for scene in drawn]


def test_labels_that_betray_a_held_out_pair_are_told() -> None:
    assert betraying(
        [
            (Claim(None, "triangle"),),
            (Claim("red", None),),
            (Claim("red", "star"),),
            (Claim("red", None), Claim(None, "star")),
            (),
        ]
    ) == [(Claim("red", None),), (Claim(None, "triangle"),), (), (), ()]
    for pair in HELD_OUT:
        assert betraying([(Claim(None, pair.shape),)]) == [(Claim(pair.colour, None),)]


def test_batches_have_the_shapes_of_their_stage(batch: Batch) -> None:
    assert batch.pixels.shape == (8, 80, 80, 3)
    assert len(batch.texts) == STAGES[1].texts
    assert batch.windows.shape == (8, 12, 100)
    assert batch.labels.shape == (8, 13, STAGES[1].texts)
    # false labels that betray weigh nothing in this stage, and some patches lie on an edge
    assert {*np.unique(batch.labels)} == {-1.0, 0.0, 1.0}
    assert (batch.labels[:, 0] > 0).any(axis=0).sum() >= STAGES[1].texts * 0.7


def test_a_true_label_of_a_window_is_true_of_the_whole_picture(batch: Batch) -> None:
    somewhere = (batch.labels[:, 1:] > 0).any(axis=1)
    assert somewhere.any()
    assert (batch.labels[:, 0][somewhere] > 0).all()


def test_windows_are_squares_of_one_to_four_patches(drawn: list[Scene]) -> None:
    rng, sides = chance(9), set()
    for scene in drawn * 5:
        window = draw_window(rng, cover(scene, 80, 8))
        rows, columns = np.nonzero(window)
        side = int(rows.max() - rows.min()) + 1
        assert side == columns.max() - columns.min() + 1
        assert window.sum() == side**2
        sides.add(side)
    assert sides == {1, 2, 3, 4}


def test_a_window_of_all_patches_reads_what_the_head_reads() -> None:
    torch.manual_seed(1)
    vision = build_model(Sizes(width=32, vision_layers=2)).eval().vision_model
    with torch.no_grad():
        *_, last = hidden_states(vision, torch.rand(3, 3, 80, 80))
        normed = vision.post_layernorm(last)
        everything = torch.ones(3, 1, 100, dtype=torch.bool)
        left = everything.clone()
        left[:, :, 50:] = False
        read = read_windows(vision, normed, torch.cat([everything, left], dim=1))
        torch.testing.assert_close(read[:, 0], vision.head(normed), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(read[:, 1], vision.head(normed[:, :50]), atol=1e-5, rtol=1e-5)
        assert (read[:, 0] - read[:, 1]).abs().max() > 1e-3


def test_the_tokenizer_is_the_shipped_one(tmp_path: Path) -> None:
    build_tokenizer(64).save_pretrained(tmp_path)
    made, shipped = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, CHECKPOINT)
    )
    for rules in (made, shipped):
        # what the last call asked for, not what the tokenizer is
        del rules["padding"], rules["truncation"]
    assert made == shipped
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 456


def test_the_learning_rate_rises_then_falls() -> None:
    stage = STAGES[3]
    rates = [learning_rate(stage, step) for step in range(stage.steps)]
    top = rates.index(max(rates))
    assert top == stage.warmup_steps - 1
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < stage.learning_rate / 50


def test_the_shipped_checkpoint_measures_as_its_card_says() -> None:
    checkpoint, card = Checkpoint(CHECKPOINT), read_card()
    single = list(scenes(9001, 60, things=1, held_out=HeldOut.NEVER))
    figures = measure_single(checkpoint, single, checkpoint.stream(single))
    assert figures["top1"] == pytest.approx(card["seen"]["top1"], abs=0.1)
    for row, said in zip(figures["by_layer"], card["seen"]["by_layer"], strict=True):
        assert row["z_true"] == pytest.approx(said["z_true"], abs=1.0)
        assert row["colour"] == pytest.approx(said["colour"], abs=0.15)


def test_the_patch_lens_points_as_its_card_says() -> None:
    checkpoint, card = Checkpoint(CHECKPOINT), read_card()
    several = list(scenes(9004, 20, things=3, held_out=HeldOut.ANY, distinct=True))
    ends = checkpoint.stream(several)[:: checkpoint.depth]
    first, last = measure_pointing(checkpoint, several, ends)
    assert last["pointing"] == pytest.approx(card["patch"][-1]["pointing"], abs=0.1)
    assert last["auc"] == pytest.approx(card["patch"][-1]["auc"], abs=0.03)
    assert first["chance"] < 0.2 < first["pointing"] < last["pointing"]
    assert last["z_in"] > last["z_other_object"]
    assert last["z_in"] > last["z_ground"]


def test_training_makes_a_checkpoint_that_can_be_halved_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, halved = tmp_path / "trained", tmp_path / "halved"
    train(trained, scale=0.0003, scenes=4, log_every=1)
    *steps, end = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["stage"] for line in steps] == [1, 2, 3, 4]
    assert all(0 < line["loss"] < 5 and 0 < line["local_loss"] < 5 for line in steps)
    assert end["parameters"] == 1906306
    halve(trained, halved)
    assert compare(trained, halved, count=5)["largest_difference"] < 0.05
    assert Checkpoint(halved).depth == 6
    with pytest.raises(FileExistsError):
        halve(trained, halved)
