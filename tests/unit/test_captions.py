"""Captions are true of their scene, and of no scene that lacks what they claim."""

from random import Random

import pytest

from demo.captions import Caption, Claim, caption, holds, is_true, photo_of, unrelated, with_article
from demo.sampling import HeldOut, scenes
from demo.world import COLOURS, HELD_OUT, SHAPES, Pair, Scene, Thing, label


def chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - captions, not secrets


@pytest.fixture(scope="module")
def told() -> list[tuple[Scene, Caption]]:
    rng = chance(7)
    return [(scene, caption(rng, scene.things)) for scene in scenes(7, 400) for _ in range(3)]


def words_of(scene: Scene) -> set[str]:
    return {word for one in scene.things for word in (one.pair.colour, one.pair.shape)}


def thing(colour: str, shape: str) -> Thing:
    return Thing(Pair(colour, shape), x=0.5, y=0.5, radius=0.2, turn=0.0, rgb=COLOURS[colour])


def test_captions_are_true_of_their_scene(told: list[tuple[Scene, Caption]]) -> None:
    assert all(is_true(text, scene.things) for scene, text in told)


def test_captions_are_false_of_scenes_with_other_colours_and_shapes(
    told: list[tuple[Scene, Caption]],
) -> None:
    strangers = [
        (text, other)
        for (scene, text), (other, _) in zip(told, told[3:], strict=False)
        if words_of(scene).isdisjoint(words_of(other))
    ]
    assert len(strangers) > 100
    assert not any(is_true(text, other.things) for text, other in strangers)


def test_the_words_of_a_caption_are_its_claims(told: list[tuple[Scene, Caption]]) -> None:
    for _, text in told:
        words = text.text.split()
        assert [word for word in words if word in COLOURS] == [
            claim.colour for claim in text.claims if claim.colour
        ]
        assert [word for word in words if word in SHAPES] == [
            claim.shape for claim in text.claims if claim.shape
        ]
        assert 1 <= len(text.claims) <= 2


def test_every_kind_of_caption_is_drawn(told: list[tuple[Scene, Caption]]) -> None:
    single = [text.claims[0] for _, text in told if len(text.claims) == 1]
    shape_only = sum(claim.colour is None for claim in single) / len(single)
    colour_only = sum(claim.shape is None for claim in single) / len(single)
    assert 0.25 < shape_only < 0.35
    assert 0.06 < colour_only < 0.14
    assert any(len(text.claims) == 2 for _, text in told)


def test_captions_of_training_scenes_name_no_held_out_pair() -> None:
    rng = chance(1)
    names = {label(pair) for pair in HELD_OUT}
    for scene in scenes(1, 300, held_out=HeldOut.NEVER):
        text = caption(rng, scene.things).text
        assert not any(name in text for name in names)


def test_a_claim_holds_for_what_it_names_and_for_nothing_else() -> None:
    ring = thing("red", "ring")
    assert holds(Claim("red", "ring"), ring)
    assert holds(Claim("red", None), ring)
    assert holds(Claim(None, "ring"), ring)
    assert not holds(Claim("red", "star"), ring)
    assert not holds(Claim("blue", None), ring)
    both = Caption("", (Claim("red", None), Claim(None, "star")))
    assert not is_true(both, [ring])
    assert is_true(both, [ring, thing("blue", "star")])


def test_unrelated_texts_are_true_of_nothing_and_name_nothing_of_the_world() -> None:
    rng = chance(2)
    for scene in scenes(2, 200):
        text = unrelated(rng)
        assert not is_true(text, scene.things)
        assert not {*COLOURS, *SHAPES}.intersection(text.text.split())


def test_articles_and_the_wording_of_the_figures() -> None:
    assert with_article("orange star") == "an orange star"
    assert photo_of(Pair("red", "ring")) == "a photo of a red ring"
    assert photo_of(Pair("red", "ring"), Pair("orange", "star")) == (
        "a photo of a red ring and an orange star"
    )
