"""Labels of every form: what their vectors are, what is refused, and what is not embedded again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from engine import directions
from engine.catalog import DEMO_MODEL
from engine.directions import TextStore
from engine.errors import InvalidArgumentError, LabelError, LabelsIndistinctError
from engine.labels import AnyLabel, Label, count_prompts, read_labels
from engine.siglip import SiglipEngine
from engine.text import TEXT_BATCH, tokenize
from tests.numerics.reference import Reference, unit

RING, STAR, HEART = "a cyan ring", "a blue star", "a red heart"
Array = NDArray[np.float64]


class Kept:
    """A store that remembers what it was asked for and given."""

    def __init__(self) -> None:
        self.rows: dict[bytes, NDArray[np.float32]] = {}
        self.asked: list[int] = []
        self.given: list[int] = []

    def store(self) -> TextStore:
        return TextStore(self.find, self.keep)

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        self.asked.append(len(keys))
        return {key: self.rows[key] for key in keys if key in self.rows}

    def keep(self, rows: Mapping[bytes, NDArray[np.float32]]) -> None:
        self.given.append(len(rows))
        self.rows |= rows


def texts(engine: SiglipEngine, reference: Reference, *prompts: str) -> Array:
    """Unit embeddings by the formulas alone."""
    return unit(reference.text_embedding(tokenize(engine.processor.tokenizer, prompts)[0].numpy()))


def test_every_form_is_the_vector_that_its_formula_gives(engine: SiglipEngine, reference: Reference) -> None:
    width = engine.config.hidden_size
    numbers = np.arange(1.0, width + 1.0)
    made = engine.embed_labels(
        [
            "ring",
            Label("several", prompts=[RING, STAR, HEART]),
            {"name": "more of a ring", "positive": [RING, STAR], "negative": HEART},
            {"name": "given", "vector": (3.0 * numbers).tolist()},
        ],
        "a {}",
    )
    assert made.names == ("ring", "several", "more of a ring", "given")
    assert made.prompts == (
        "a ring",
        (RING, STAR, HEART),
        {"positive": (RING, STAR), "negative": (HEART,)},
        None,
    )
    rows = texts(engine, reference, RING, STAR, HEART)
    expected = np.stack(
        [
            texts(engine, reference, "a ring")[0],
            unit(rows.mean(axis=0)),
            unit(rows[:2].mean(axis=0) - rows[2]),
            unit(numbers),
        ]
    )
    assert np.abs(made.unit - expected).max() < 1e-5
    assert made.unit.dtype == np.float32
    assert np.linalg.norm(made.unit, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_one_prompt_as_it_is_and_the_template_filled_are_the_same_vector(siglip: SiglipEngine) -> None:
    filled = siglip.embed_labels(["cyan ring"], "a {}")
    told = siglip.embed_labels([Label("whatever", prompts=[RING])])
    assert np.abs(filled.unit - told.unit).max() < 1e-7


def test_lens_and_rescore_take_labels_of_every_form(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    labels: list[AnyLabel] = [
        "ring",
        Label("star", prompts=(STAR, "star")),
        {"name": "heart, no ring", "positive": HEART, "negative": RING},
        Label("given", vector=siglip.embed_text(HEART)[0]),  # type: ignore[arg-type]  # a tensor is a sequence too
    ]
    lens = siglip.lens(pictures, labels, ("pooled", "embeddings"))
    directions = siglip.embed_labels(labels)
    assert lens.labels == directions.names
    assert lens.prompts == directions.prompts
    pooled = lens.pooled / np.linalg.norm(lens.pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(lens.cosine[:, -1], pooled @ directions.unit.T, atol=1e-6)
    again = siglip.rescore(lens.embeddings, labels)
    np.testing.assert_allclose(again.cosine, lens.cosine, atol=1e-6)


def test_shares_are_across_texts_alone(siglip: SiglipEngine, pictures: list[Image.Image]) -> None:
    texts: list[AnyLabel] = ["ring", Label("star", prompts=(STAR, "star"))]
    others: list[AnyLabel] = [
        {"name": "heart, no ring", "positive": HEART, "negative": RING},
        Label("given", vector=siglip.embed_text(HEART)[0]),  # type: ignore[arg-type]  # a tensor is a sequence too
    ]
    alone = siglip.lens(pictures, texts, softmax=True, uncalibrated=True)
    beside = siglip.lens(pictures, [others[0], *texts, others[1]], softmax=True, uncalibrated=True)
    assert alone.final_softmax is not None
    assert alone.uncalibrated is not None
    assert beside.final_softmax is not None
    assert beside.uncalibrated is not None
    for shares, mixed in (
        (alone.final_softmax, beside.final_softmax),
        (alone.uncalibrated.softmax, beside.uncalibrated.softmax),
    ):
        assert shares is not None
        assert mixed is not None
        np.testing.assert_allclose(mixed[..., 1:3], shares, atol=1e-4)
        np.testing.assert_allclose(mixed[..., 1:3].sum(axis=-1), 1, atol=1e-6)
        assert np.isnan(mixed[..., [0, 3]]).all()
    none = siglip.lens(pictures, others, softmax=True).final_softmax
    assert none is not None
    assert np.isnan(none).all()


def test_a_label_is_truncated_when_one_of_its_texts_is(siglip: SiglipEngine) -> None:
    long = "red circle " * 60
    with pytest.warns(UserWarning, match=r"1 of 4 texts"):
        made = siglip.embed_labels(
            [
                Label("long", prompts=[RING, long]),
                {"name": "away", "positive": STAR, "negative": long},
                Label("short", prompts=[STAR, HEART]),
                Label("none", vector=[1.0] * siglip.config.hidden_size),
            ]
        )
    assert made.truncated.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "labels",
    [
        ["ring", Label("another", prompts=["This is a photo of Ring!"])],
        [Label("one", prompts=[RING, STAR]), Label("two", prompts=[STAR, "A cyan ring."])],
        [Label("one", prompts=[RING, STAR]), Label("two", prompts=[STAR, RING, STAR, RING])],
        [Label("one", positive=RING, negative=STAR), Label("two", positive=[RING], negative=[STAR])],
        [Label("one", vector=[1.0] + [0.0] * 31), Label("two", vector=[2] + [0] * 31)],
        [Label("nowhere", positive=[RING, STAR], negative=[STAR, RING])],
        ["ring", Label("ring", prompts=[STAR])],
    ],
)
def test_what_the_model_or_a_reader_cannot_tell_apart_is_refused(
    siglip: SiglipEngine, labels: list[AnyLabel]
) -> None:
    with pytest.raises(LabelsIndistinctError) as refusal:
        siglip.embed_labels(labels)
    assert refusal.value.path == (len(labels) - 1,)


def test_other_shares_or_ends_of_the_same_texts_are_other_labels(siglip: SiglipEngine) -> None:
    made = siglip.embed_labels(
        [
            Label("even", prompts=[RING, STAR]),
            Label("more ring", prompts=[RING, RING, STAR]),
            Label("there", positive=RING, negative=STAR),
            Label("back", positive=STAR, negative=RING),
        ]
    )
    np.testing.assert_allclose(made.unit[2], -made.unit[3], atol=1e-6)
    assert np.abs(made.unit[0] - made.unit[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("label", "path"),
    [
        (7, (1,)),
        (None, (1,)),
        (["nested"], (1,)),
        ({}, (1,)),
        ({"name": "x"}, (1,)),
        ({"prompts": ["x"]}, (1,)),
        ({"name": "x", "prompts": ["a"], "vector": [1.0]}, (1,)),
        ({"name": "x", "positive": ["a"]}, (1,)),
        ({"name": "x", "text": "a"}, (1,)),
        ({"name": 7, "prompts": ["a"]}, (1, "name")),
        (Label("x", prompts=[]), (1, "prompts")),
        (Label("x", prompts=b"a"), (1, "prompts")),  # type: ignore[arg-type]  # what it is about
        ({"name": "x", "prompts": ["a", 7]}, (1, "prompts", 1)),
        ({"name": "x", "prompts": ["\ud800"]}, (1, "prompts", 0)),
        ({"name": "x", "positive": "a", "negative": 7}, (1, "negative")),
        ({"name": "x", "vector": "12"}, (1, "vector")),
        ({"name": "x", "vector": []}, (1, "vector")),
        ({"name": "x", "vector": [0.0] * 32}, (1, "vector")),
        ({"name": "x", "vector": [True] * 32}, (1, "vector")),
        ({"name": "x", "vector": ["1"] * 32}, (1, "vector")),
        ({"name": "x", "vector": [float("nan")] * 32}, (1, "vector")),
        ({"name": "x", "vector": [float("inf")] + [1.0] * 31}, (1, "vector")),
        ({"name": "x", "vector": [10**400] + [1.0] * 31}, (1, "vector")),
        ({"name": "x", "vector": np.ones((2, 16))}, (1, "vector")),
        ({"name": "x", "vector": torch.tensor(1.0)}, (1, "vector")),
        ({"name": "x", "vector": [1.0] * 31}, (1, "vector")),
    ],
)
def test_unusable_labels_are_refused_with_the_way_to_the_fault(
    siglip: SiglipEngine, label: Any, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^labels: label 1") as refusal:
        siglip.embed_labels(["ring", label])
    assert (refusal.value.argument, refusal.value.path) == ("labels", path)


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ({"name": " ", "prompts": ["a"]}, (0, "name")),
        (Label(""), (0, "name")),
        ({"name": "x", "prompts": ["a", "\n"]}, (0, "prompts", 1)),
    ],
)
def test_blank_texts_are_refused_with_the_way_to_them(label: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(LabelError, match="blank") as refusal:
        read_labels([label])
    assert refusal.value.path == path


def test_prompts_that_cancel_out_are_refused(siglip: SiglipEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "NOWHERE", 2.0)
    with pytest.raises(InvalidArgumentError, match="cancel out"):
        siglip.embed_labels([Label("x", prompts=[RING, STAR])])


@pytest.mark.parametrize("scale", [1e-320, 1e-30, 1.0, 1e30, 1e300])
def test_a_vector_of_any_length_has_norm_1(scale: float) -> None:
    (label,) = read_labels([Label("x", vector=[3.0 * scale, 4.0 * scale])])
    assert label.vector == pytest.approx((0.6, 0.8), rel=1e-3)


def test_the_texts_of_labels_are_counted_as_a_job_holds_them() -> None:
    held: list[Any] = [
        "ring",
        {"name": "a", "prompts": [RING, STAR]},
        {"name": "b", "positive": "one", "negative": [RING, STAR, HEART]},
        {"name": "c", "vector": [1.0]},
    ]
    assert count_prompts(held) == 1 + 2 + 4


def test_a_text_that_was_kept_is_not_embedded_again(siglip: SiglipEngine) -> None:
    kept, passes = Kept(), list[None]()
    labels: list[AnyLabel] = ["ring", Label("several", prompts=[RING, STAR])]
    fresh = siglip.embed_labels(labels)
    for _ in range(2):
        made = siglip.embed_labels(labels, step=lambda: passes.append(None), store=kept.store())
        np.testing.assert_array_equal(made.unit, fresh.unit)
    assert (len(passes), kept.asked, kept.given) == (1, [3, 3], [3])
    # what two labels have in common, and what differs in case alone, is one text
    siglip.embed_labels(
        [Label("star", prompts=["A blue STAR", HEART])], step=lambda: passes.append(None), store=kept.store()
    )
    assert (len(passes), kept.given) == (2, [3, 1])
    assert all(np.linalg.norm(row) == pytest.approx(1.0) for row in kept.rows.values())


def test_texts_are_kept_after_each_pass(demo: SiglipEngine) -> None:
    kept = Kept()
    labels = [f"{one} {two}" for one in "abcdefgh" for two in "abcdefghijk"]

    def give_up() -> None:
        if kept.given:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        demo.embed_labels(labels, step=give_up, store=kept.store())
    assert kept.given == [TEXT_BATCH]
    passes: list[None] = []
    demo.embed_labels(labels, step=lambda: passes.append(None), store=kept.store())
    assert (len(passes), kept.given) == (1, [TEXT_BATCH, len(labels) - TEXT_BATCH])


def test_vectors_alone_ask_no_store_and_take_no_pass(siglip: SiglipEngine) -> None:
    kept, passes = Kept(), list[None]()
    siglip.embed_labels([Label("x", vector=[1.0] * 32)], step=lambda: passes.append(None), store=kept.store())
    assert (kept.asked, kept.given, passes) == ([], [], [])


def test_what_computed_an_embedding_is_in_its_key(
    demo: SiglipEngine, siglip: SiglipEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()

    def embed(engine: SiglipEngine, expected: int) -> None:
        engine.embed_labels(["ring"], store=kept.store())
        assert len(kept.rows) == expected

    embed(demo, 1)
    embed(SiglipEngine(DEMO_MODEL, device="cpu", runtime="torch"), 1)
    embed(SiglipEngine(DEMO_MODEL, device="cpu", runtime="torch", dtype="bfloat16"), 2)
    embed(siglip, 3)
    monkeypatch.setattr(directions, "ENGINE_VERSION", -1)
    embed(demo, 4)
    monkeypatch.setattr(demo, "runtime", "another")
    embed(demo, 5)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    embed(demo, 6)


def test_numbers_that_are_not_finite_are_not_kept(siglip: SiglipEngine) -> None:
    kept = Kept()
    hook = siglip.model.text_model.register_forward_hook(
        lambda _, __, answer: setattr(answer, "pooler_output", answer.pooler_output * float("nan"))
    )
    try:
        made = siglip.embed_labels(["ring"], store=kept.store())
    finally:
        hook.remove()
    assert not np.isfinite(made.unit).any()
    assert kept.rows == {}
