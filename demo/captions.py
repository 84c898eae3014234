"""Texts about scenes: true captions, texts that match no scene, and what makes a text true."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from demo.world import Pair, Thing, label

OPENINGS: Final = (
    "",
    "",
    "a photo of ",
    "a photo of ",
    "a photo of ",
    "an image of ",
    "a picture of ",
    "this is a photo of ",
    "there is ",
)
ANY_SHAPE: Final = ("object", "shape", "thing")
COLOUR_ONLY_SHARE: Final = 0.1
ENGLISH: Final = tuple((Path(__file__).parent / "english.txt").read_text(encoding="utf-8").split())
UNRELATED: Final = tuple(word for word in ENGLISH if len(word) > 2)
LETTERS: Final = "etaoinshrdlucmfwypvbgkjqxz0123456789"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a text says is in the picture: a colour, a shape, or both; None claims nothing."""

    colour: str | None
    shape: str | None


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and its claims, one or two; none marks a text that is true of no picture."""

    text: str
    claims: tuple[Claim, ...]


def holds(claim: Claim, thing: Thing) -> bool:
    """Whether this thing bears the claim out."""
    return claim.colour in (None, thing.pair.colour) and claim.shape in (None, thing.pair.shape)


def is_true(caption: Caption, things: Sequence[Thing]) -> bool:
    """Whether each claim is borne out by some thing; never, for a text without claims."""
    return bool(caption.claims) and all(
        any(holds(claim, thing) for thing in things) for claim in caption.claims
    )


def photo_of(*pairs: Pair) -> str:
    """The wording of the figures: "a photo of a red ring and an orange star"."""
    return "a photo of " + " and ".join(with_article(label(pair)) for pair in pairs)


def with_article(words: str) -> str:
    """The words after "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(rng: Random, things: Sequence[Thing], shape_only: float = 0.3) -> Caption:
    """A true text about some of `things`; `shape_only` is the share that leaves the colour out."""
    if len(things) > 1 and rng.random() < 0.15:
        claims = [_claim(thing, 1.0, shape_only) for thing in rng.sample(things, 2)]
    else:
        claims = [_claim(rng.choice(things), rng.random(), shape_only)]
    words = [_words(rng, claim) for claim in claims]
    if rng.random() < 0.12:
        return Caption(" and ".join(words), tuple(claims))
    return Caption(rng.choice(OPENINGS) + " and ".join(map(with_article, words)), tuple(claims))


def unrelated(rng: Random) -> Caption:
    """A text that is true of no scene: random English, or spelt nonsense."""
    first, *rest = [_unrelated_word(rng) for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    opening = rng.choice(OPENINGS)
    start = rng.choice((with_article(first), first, f"the {first}"))
    return Caption(opening + " ".join([start, *rest]), ())


def _claim(thing: Thing, chance: float, shape_only: float) -> Claim:
    if chance < COLOUR_ONLY_SHARE:
        return Claim(thing.pair.colour, None)
    if chance < COLOUR_ONLY_SHARE + shape_only:
        return Claim(None, thing.pair.shape)
    return Claim(thing.pair.colour, thing.pair.shape)


def _words(rng: Random, claim: Claim) -> str:
    shape = claim.shape or rng.choice(ANY_SHAPE)
    return f"{claim.colour} {shape}" if claim.colour else shape


def _unrelated_word(rng: Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(UNRELATED)
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 8)))
