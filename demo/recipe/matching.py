"""Which text is true of which scene, for whole batches at once."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from demo.captions import Claim
from demo.recipe.axes import Matches, ThingFlags, ThingPairs
from demo.sampling import MOST_THINGS
from demo.world import COLOUR_NAMES, HELD_OUT, SHAPES, Scene

Claims = tuple[Claim, ...]

ABSENT: Final = -9  # the colour and shape of a thing that is not there
ANY: Final = -1
MOST_CLAIMS: Final = 2

HELD_SHAPE: Final = {pair.colour: pair.shape for pair in HELD_OUT}
HELD_COLOUR: Final = {pair.shape: pair.colour for pair in HELD_OUT}


def encode_things(scenes: Sequence[Scene]) -> ThingPairs:
    """Colour and shape of each thing as indices; `ABSENT` fills the rows up."""
    pairs = np.full((len(scenes), MOST_THINGS, 2), ABSENT)
    for row, scene in enumerate(scenes):
        for place, thing in enumerate(scene.things):
            pairs[row, place] = COLOUR_NAMES.index(thing.pair.colour), SHAPES.index(thing.pair.shape)
    return pairs


def match(things: ThingPairs, seen: ThingFlags, texts: Sequence[Claims]) -> Matches:
    """Whether each claim of a text holds for some thing that a window sees.

    A text without claims is true of nothing.
    """
    claims = np.full((len(texts), MOST_CLAIMS, 2), ANY)
    for row, text in enumerate(texts):
        if text:
            # a single claim stands twice: to hold twice is to hold
            claims[row] = _encode(text[0]), _encode(text[-1])
    matched = np.array([bool(text) for text in texts])
    colour, shape = things[:, :, None, 0], things[:, :, None, 1]
    for wanted_colour, wanted_shape in claims.transpose(1, 2, 0):
        fits = ((wanted_colour == ANY) | (colour == wanted_colour)) & (
            (wanted_shape == ANY) | (shape == wanted_shape)
        )
        fits &= colour >= 0
        holders = np.einsum("swo,sot->swt", seen.astype(np.float32), fits.astype(np.float32))
        matched = matched & (holders > 0)
    return matched


def betraying(texts: Sequence[Claims]) -> list[Claims]:
    """For each text what a picture must hold for the pair's label to give a held-out pair away.

    With "red triangle" held out, "a triangle" is false of every red thing in training, and "a red thing" of
    every triangle: the model would learn that red is never a triangle. So "a triangle" is answered with a
    claim of red, "a red thing" with one of a triangle. Other texts give nothing away.
    """
    return [_betraying(text) for text in texts]


def _betraying(text: Claims) -> Claims:
    if len(text) != 1:
        return ()
    (claim,) = text
    if claim.colour is None and claim.shape is not None:
        return (Claim(HELD_COLOUR[claim.shape], None),)
    if claim.shape is None and claim.colour is not None:
        return (Claim(None, HELD_SHAPE[claim.colour]),)
    return ()


def _encode(claim: Claim) -> tuple[int, int]:
    return (
        ANY if claim.colour is None else COLOUR_NAMES.index(claim.colour),
        ANY if claim.shape is None else SHAPES.index(claim.shape),
    )
