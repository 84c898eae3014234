"""What a lens says, from cosines made by hand and from small engines."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from engine.errors import InvalidArgumentError, LabelsIndistinctError, LabelsMissingError
from engine.layers import resolve_layers
from engine.lens import (
    LabelDirections,
    Lens,
    Scores,
    keep_labels,
    settle_layers,
    summarize,
)
from engine.plan import LensPlan
from engine.siglip import SiglipEngine
from engine.tokens import TokenMaps

LABELS = ["red circle", "blue star", "green heart"]


def by_hand(cosine: list[list[list[float]]], layers: tuple[int, ...], depth: int) -> Lens:
    scores = np.array(cosine, dtype=np.float32)
    count = scores.shape[2]
    directions = LabelDirections(
        names=tuple(str(index) for index in range(count)),
        prompts=tuple(str(index) for index in range(count)),
        unit=np.eye(count, 4, dtype=np.float32),
        truncated=np.zeros(count, dtype=bool),
        checkpoint_sha256="",
    )
    plan = LensPlan(depth=depth, grid=(1, 1), layers=layers, patch_layers=None, patch_method="head")
    final = scores[:, -1]
    read = Scores(
        cosine=scores,
        final=final,
        pooled=np.ones((len(scores), 4), dtype=np.float32),
        kept=keep_labels(final),
        tokens=TokenMaps(),
        embeddings=None,
        head_deviation=0.0,
    )
    return summarize(directions, plan, read, scale=10.0, bias=-1.0)


def test_settle_layer_is_where_the_final_answer_begins_to_hold() -> None:
    top = np.array(
        [
            [1, 1, 1, 1],  # always
            [0, 1, 1, 1],  # from layer 1
            [1, 0, 1, 1],  # there, gone, back
            [0, 0, 0, 1],  # only at the end
            [1, 1, 0, 1],  # likewise
        ]
    )
    assert settle_layers(top).tolist() == [0, 1, 2, 3, 3]


def test_scores_by_hand() -> None:
    lens = by_hand([[[0.5, 0.1], [0.2, 0.3]], [[0.1, 0.2], [0.4, 0.4]]], layers=(0, 1), depth=1)
    assert lens.top.tolist() == [[0, 1], [1, 0]]
    assert lens.tied.tolist() == [False, True]
    assert lens.settle_layer is not None
    assert lens.settle_layer.tolist() == [1, 1]
    assert lens.top_margin is not None
    assert lens.top_margin == pytest.approx([0.1, 0.0], abs=1e-6)
    assert lens.final_logit[0] == pytest.approx([10.0 * 0.2 - 1.0, 10.0 * 0.3 - 1.0])
    assert lens.final_match_probability[0, 0] == pytest.approx(1.0 / (1.0 + math.exp(-1.0)))


def test_one_label_has_no_margin_and_some_layers_no_settle_layer() -> None:
    alone = by_hand([[[0.5], [0.2]]], layers=(0, 1), depth=1)
    assert alone.top_margin is None
    assert alone.tied.tolist() == [False]
    assert by_hand([[[0.5, 0.1]]], layers=(1,), depth=1).settle_layer is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ({"every": 2}, (2, 4, 5)),
        ({"every": 5}, (5,)),
        ({"every": 9}, (5,)),
        ([5, 0, 0], (0, 5)),
    ],
)
def test_layers_are_resolved(asked: object, expected: tuple[int, ...]) -> None:
    assert resolve_layers(asked, 5) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [
        "last",
        {"every": 0},
        {"every": 1, "from": 2},
        {},
        [],
        [6],
        [-1],
        [True],
        [1.0],
        b"\x01",
        np.array([1, 2]),
        3,
        None,
    ],
)
def test_unusable_layers_are_refused_by_name(asked: object) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        resolve_layers(asked, 5)  # type: ignore[arg-type]
    assert refusal.value.argument == "layers"
    assert "0..5" in str(refusal.value)


def test_chosen_layers_are_rows_of_all_layers(siglip: SiglipEngine, pictures: list[Image.Image]) -> None:
    everything = siglip.lens(pictures, LABELS)
    assert everything.layers == (0, 1, 2, 3)
    assert everything.cosine.shape == (5, 4, 3)
    some = siglip.lens(pictures, LABELS, layers=[2, 0])
    assert some.layers == (0, 2)
    assert np.array_equal(some.cosine, everything.cosine[:, [0, 2]])
    assert np.array_equal(some.final_logit, everything.final_logit)
    assert np.array_equal(some.pooled, everything.pooled)
    assert some.settle_layer is None
    assert everything.settle_layer is not None
    assert everything.cosine.dtype == everything.final_logit.dtype == np.float32


def test_directions_once_give_the_same_lens_as_labels(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    directions = siglip.embed_labels(LABELS, "a photo of a {}")
    assert directions.prompts == tuple(f"a photo of a {label}" for label in LABELS)
    assert np.linalg.norm(directions.unit, axis=1) == pytest.approx(1.0)
    cached = siglip.lens(pictures, directions)
    fresh = siglip.lens(pictures, LABELS, template="a photo of a {}")
    for field in dataclasses.fields(Lens):
        assert np.array_equal(getattr(cached, field.name), getattr(fresh, field.name)), field.name


def test_directions_of_other_weights_are_refused(
    siglip: SiglipEngine, siglip2: SiglipEngine, pictures: list[Image.Image]
) -> None:
    with pytest.raises(InvalidArgumentError, match="another checkpoint"):
        siglip2.lens(pictures, siglip.embed_labels(LABELS))


def test_labels_with_equal_tokens_are_refused_by_name(siglip: SiglipEngine, siglip2: SiglipEngine) -> None:
    with pytest.raises(LabelsIndistinctError, match=r"'Red ring' \(label 0\) and 'red, ring!' \(label 2\)"):
        siglip.embed_labels(["Red ring", "blue star", "red, ring!"])
    # SigLIP 2 keeps punctuation, so there only case is lost.
    assert siglip2.embed_labels(["Red ring", "red, ring!"]).names == ("Red ring", "red, ring!")
    with pytest.raises(LabelsIndistinctError):
        siglip2.embed_labels(["Red ring", "red RING"])
    with pytest.raises(LabelsIndistinctError), pytest.warns(UserWarning, match="longer than 64"):
        siglip.embed_labels(["red ring " * 40 + "one", "red ring " * 40 + "two"])


@pytest.mark.parametrize("labels", [[], [""], ["cat", "  "]])
def test_absent_labels_are_refused(siglip: SiglipEngine, labels: list[str]) -> None:
    with pytest.raises(LabelsMissingError):
        siglip.embed_labels(labels)


def test_braces_in_a_label_are_only_text(siglip: SiglipEngine) -> None:
    assert siglip.embed_labels(["a {} b {x}"], "see {}").prompts == ("see a {} b {x}",)
