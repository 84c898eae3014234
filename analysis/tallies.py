"""What the pictures of a job say together: where they settle, and how often the top label is true."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.facts import Reading

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`, with the 95 % interval of Wilson (1927) for pictures that are independent."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, 0..1."""
        return self.hits / self.total


@dataclass(frozen=True, slots=True)
class Settled:
    """How many pictures settled at a layer, by whether their final label is true (None: not known)."""

    layer: int
    truth: bool | None
    pictures: int


@dataclass(frozen=True, slots=True)
class Tally:
    """A job's pictures in numbers.

    `layers` are those that every picture has; `settled` is empty when no picture knows. `true_by_layer` says
    for each of `layers` how often the label on top is a true one, and is empty when no picture can be judged.
    `chance` is the share that a label drawn blindly from those asked for would reach.
    """

    layers: tuple[int, ...]
    settled: tuple[Settled, ...]
    median_settle: float | None
    judged: int
    true_by_layer: tuple[Share, ...]
    chance: float | None

    @property
    def truths(self) -> set[bool | None]:
        """Which kinds of final label there are among those that settled."""
        return {part.truth for part in self.settled}


def tally(readings: Sequence[Reading], asked: Collection[str]) -> Tally:
    """Count pictures; one is judged when at least one of its true labels was asked for."""
    layers = readings[0].layers if readings and len({reading.layers for reading in readings}) == 1 else ()
    settle = [reading.settle_layer for reading in readings if reading.settle_layer is not None]
    judged = [reading for reading in readings if is_judged(reading, asked)]
    counted = Counter(
        (reading.settle_layer, is_true(reading, asked))
        for reading in readings
        if reading.settle_layer is not None
    )
    return Tally(
        layers=layers,
        settled=tuple(
            Settled(layer, truth, counted[layer, truth])
            for layer in layers
            for truth in (True, False, None)
            if counted[layer, truth]
        ),
        median_settle=float(np.median(settle)) if settle else None,
        judged=len(judged),
        true_by_layer=tuple(
            wilson(sum(reading.top_by_layer[place] in reading.true_labels for reading in judged), len(judged))
            for place in range(len(layers))
            if judged
        ),
        chance=(
            sum(len(set(reading.true_labels) & set(asked)) for reading in judged) / len(judged) / len(asked)
            if judged
            else None
        ),
    )


def is_judged(reading: Reading, asked: Collection[str]) -> bool:
    """Whether the picture's answer could be true at all."""
    return any(label in asked for label in reading.true_labels)


def is_true(reading: Reading, asked: Collection[str]) -> bool | None:
    """Whether the final label is one of the true ones; None where that cannot be judged."""
    return reading.top in reading.true_labels if is_judged(reading, asked) else None


def wilson(hits: int, total: int) -> Share:
    """A share with Wilson's 95 % interval."""
    share = hits / total
    spread = Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return Share(hits, total, max(0.0, middle - half), min(1.0, middle + half))
