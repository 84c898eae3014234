"""The scores of a set, read once: what each layer has on top, and by how much."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Images, leave_out, slices
from analysis.sets.notes import Notes

TOP5_LABELS = 10
"""From so many labels on it says something that the true one is among the five best."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is kept of `SetFacts.cosine`.

    - `top` [row, layer]: place of the best label; of labels that tie the first.
    - `settled` [row]: place of the first layer from which `top` is the final one.
    - `margin`, `true_margin` [row]: best minus second score, and true minus best other one, both at the final
      layer; NaN with one label, `true_margin` of unlabelled rows as well.
    - `mean_margin`, `mean_true_margin`, `spread` [layer]: over all images, over labelled ones, the root of
      the mean variance of an image's scores; NaN without any.
    - `in_five` [layer]: labelled images whose true label is among the five best.
    """

    top: NDArray[np.int16]
    settled: NDArray[np.int64]
    margin: NDArray[np.float32]
    true_margin: NDArray[np.float32]
    mean_margin: NDArray[np.float64]
    mean_true_margin: NDArray[np.float64]
    spread: NDArray[np.float64]
    in_five: NDArray[np.int64]


def read_scores(facts: SetFacts, images: Images, notes: Notes) -> tuple[Scores, Images]:
    """Scores of all rows, and the images whose scores are all numbers; one pass in slices of rows."""
    rows, layers = len(facts.index), len(facts.layers)
    counted = np.zeros(rows, dtype=bool)
    counted[images.rows] = True
    top = np.zeros((rows, layers), dtype=np.int16)
    margin, true_margin = np.full((2, rows), np.nan, dtype=np.float32)
    sums = np.zeros((3, layers))
    in_five = np.zeros(layers, dtype=np.int64)
    for part in slices(rows, 4 * layers * len(facts.labels)):
        block = np.asarray(facts.cosine[part])
        numbers = np.isfinite(block)
        if not numbers.all():
            counted[part] &= numbers.all(axis=(1, 2))
            block = np.where(numbers, block, -np.inf)
        top[part] = block.argmax(axis=2)
        taken, true = counted[part], facts.true_label[part]
        known = np.flatnonzero(taken & (true != UNLABELLED))
        sums[2] += block[taken].var(axis=2, dtype=np.float64).sum(axis=0)
        if len(facts.labels) > 1:
            best, second = _best_two(block, top[part])
            own, other = _true_and_other(block, true, top[part], best, second)
            margin[part] = _minus(best, second)[:, -1]
            true_margin[part] = np.where(true == UNLABELLED, np.nan, _minus(own, other)[:, -1])
            sums[0] += (best[taken] - second[taken]).sum(axis=0, dtype=np.float64)
            sums[1] += (own[known] - other[known]).sum(axis=0, dtype=np.float64)
        in_five += _in_five(block[known], true[known])
    standing = counted[images.rows]
    if not standing.all():
        notes.say("scores-not-finite", f"{int((~standing).sum())} images have scores that are no numbers.")
    images = leave_out(images, standing)
    with np.errstate(invalid="ignore"):
        means = sums / np.array([[len(images)], [len(images.labelled)], [len(images)]])
    if len(facts.labels) == 1:
        means[:2] = np.nan
    return Scores(
        top, settle(top), margin, true_margin, means[0], means[1], np.sqrt(means[2]), in_five
    ), images


def settle(top: NDArray[np.int16]) -> NDArray[np.int64]:
    """For each row the place of the first layer from which the top label is the final one."""
    differs = top != top[:, -1:]
    # counted from the end: the first difference there ends the settled stretch
    since = np.where(differs.any(axis=1), np.argmax(differs[:, ::-1], axis=1), top.shape[1])
    return np.asarray(top.shape[1] - since, dtype=np.int64)


def _minus(high: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        return high - low


def _best_two(
    block: NDArray[np.float32], top: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two highest scores [row, layer] each."""
    place = top[:, :, None].astype(np.int64)
    best = np.take_along_axis(block, place, axis=2)[:, :, 0]
    rest = block.copy()
    np.put_along_axis(rest, place, -np.inf, axis=2)
    return best, rest.max(axis=2)


def _true_and_other(
    block: NDArray[np.float32],
    true: NDArray[np.int32],
    top: NDArray[np.int16],
    best: NDArray[np.float32],
    second: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The score of the true label [row, layer], and the best one of another; of unlabelled rows anything."""
    place = np.maximum(true, 0).astype(np.int64)
    own = np.take_along_axis(block, place[:, None, None], axis=2)[:, :, 0]
    return own, np.where(top == place[:, None], second, best)


def _in_five(block: NDArray[np.float32], true: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many rows have the true label among the five best, by layer; of labels that tie the first."""
    if block.shape[2] < TOP5_LABELS:
        return np.zeros(block.shape[1], dtype=np.int64)
    own = np.take_along_axis(block, true[:, None, None].astype(np.int64), axis=2)
    before = np.arange(block.shape[2]) < true[:, None, None]
    ahead = (block > own) | ((block == own) & before)
    return np.asarray((ahead.sum(axis=2) < 5).sum(axis=0), dtype=np.int64)  # noqa: PLR2004 - five is its name
