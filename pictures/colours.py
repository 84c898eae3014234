"""Turn scores into colours: a scale that the caller fixes, over tables that look evenly stepped.

Both tables come with the package cmap: inferno (CC0) glows out of darkness, so that low scores dim a picture
and high ones light it up; vik (Fabio Crameri, MIT) runs from blue through near-white to brown, so that either
sign shows on light and on dark pictures.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

import numpy as np
from cmap import Colormap
from numpy.typing import NDArray

LEVELS: Final = 255
"""Colours of a scale: the 256th place of a palette is for "no patch here", and an odd number has a middle."""

_SEQUENTIAL: Final = "bids:inferno"
_DIVERGING: Final = "crameri:vik"
_DECIMALS: Final = 2
_FINEST: Final = 5
_HUGE: Final = 1e5


class UnusableScoresError(ValueError):
    """These scores cannot be drawn."""

    code = "scores-unusable"


@dataclass(frozen=True, slots=True)
class Scale:
    """What the ends of a colour table stand for; scores beyond them get the colour of the end.

    `low` == `high` is a scale: all of it has the middle colour. A diverging one is symmetric about 0.

    Raises:
        UnusableScoresError: an end that is not finite, ends in the wrong order, a lopsided diverging scale.
    """

    low: float
    high: float
    diverging: bool = False

    def __post_init__(self) -> None:
        """Refuse ends between which nothing can be ordered."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UnusableScoresError(f"A scale needs finite ends: {self.low} to {self.high}.")
        if self.low > self.high:
            raise UnusableScoresError(f"A scale runs upwards: {self.low} to {self.high}.")
        if self.diverging and self.low != -self.high:
            raise UnusableScoresError(f"A diverging scale has 0 in its middle: {self.low} to {self.high}.")

    @classmethod
    def around_zero(cls, extent: float) -> Self:
        """The diverging scale from -extent to extent: for differences."""
        return cls(-extent, extent, diverging=True)

    @classmethod
    def spanning(cls, scores: NDArray[np.floating], *, diverging: bool = False) -> Self:
        """The narrowest scale that holds all `scores` (any shape, at least one).

        Raises:
            UnusableScoresError: no scores, or one that is not finite.
        """
        check_finite(scores)
        if diverging:
            return cls.around_zero(float(np.abs(scores.astype(np.float64)).max()))
        return cls(float(scores.min()), float(scores.max()))

    @property
    def middle(self) -> float:
        """The score of the table's middle colour."""
        return self.low / 2 + self.high / 2

    def levels(self, scores: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The place of each score in `colours()`, 0..254, in the shape of `scores`.

        Raises:
            UnusableScoresError: a score that is not finite.
        """
        check_finite(scores)
        # Halves, because high - low of two large numbers is infinite.
        inside = np.clip(scores.astype(np.float64), self.low, self.high) / 2 - self.low / 2
        span = self.high / 2 - self.low / 2
        share = inside / span if span > 0 else np.full(scores.shape, 0.5)
        return np.rint(np.clip(share, 0.0, 1.0) * (LEVELS - 1)).astype(np.uint8)

    def colours(self) -> NDArray[np.uint8]:
        """The table, [255, 3]: red, green and blue from the low end to the high one."""
        return _table(_DIVERGING if self.diverging else _SEQUENTIAL)

    def write(self, score: float) -> str:
        """The score as text, with as many digits as the scale's width asks for."""
        span = self.high / 2 - self.low / 2
        finer = -math.floor(math.log10(span)) if span > 0 else 0
        if finer > _FINEST or abs(score) >= _HUGE:
            return f"{score:.3g}"
        text = f"{score:.{max(_DECIMALS, finer)}f}"
        return text.removeprefix("-") if float(text) == 0 else text


def check_finite(scores: NDArray[np.floating]) -> None:
    """Raise `UnusableScoresError` when there are no scores or one is infinite or no number."""
    if scores.size == 0:
        raise UnusableScoresError("There are none.")
    if not np.isfinite(scores).all():
        raise UnusableScoresError("One of them is infinite or not a number.")


@cache
def _table(name: str) -> NDArray[np.uint8]:
    # cmap gives 256 steps whatever number is asked for.
    steps = Colormap(name).lut()[:, :3]
    places = np.linspace(0.0, len(steps) - 1.0, LEVELS)
    channels = [np.interp(places, np.arange(len(steps)), channel) for channel in steps.T]
    table: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1) * 255).astype(np.uint8)
    table.flags.writeable = False
    return table
