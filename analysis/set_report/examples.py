"""Ranks of a few labels at every layer, of a few items: what the small multiples show."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.set_report.facts import Example
from analysis.sets.facts import UNLABELLED, SetFacts

LABELS_SHOWN: Final = 5


def read_examples(facts: SetFacts, indexes: Sequence[int]) -> list[Example]:
    """The items of `indexes` that have a result and scores that are numbers, in that order."""
    found = np.flatnonzero(np.isin(facts.index, indexes))
    rows = {int(facts.index[row]): int(row) for row in found}
    return [
        _read(facts, rows[index], index)
        for index in indexes
        if index in rows and np.isfinite(facts.cosine[rows[index]]).all()
    ]


def rank(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places [layer, label] of scores [layer, label]: 1 the best; of labels that tie the one named first."""
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, scores.shape[1] + 1)[None], axis=1)
    return places


def _read(facts: SetFacts, row: int, index: int) -> Example:
    ranks = rank(np.asarray(facts.cosine[row], dtype=np.float32))
    true = int(facts.true_label[row])
    return Example(
        index=index,
        custom_id=facts.custom_ids[int(row)].as_py(),
        true_label=None if true == UNLABELLED else facts.labels[true],
        ranks={facts.labels[label]: ranks[:, label].tolist() for label in _shown(ranks, true)},
    )


def _shown(ranks: NDArray[np.int64], true: int) -> list[int]:
    """The final label, the true one, then those that led longest, then the next best at the end."""
    final = np.argsort(ranks[-1])
    led = Counter(ranks.argmin(axis=1).tolist())
    wanted = [int(final[0]), *([] if true == UNLABELLED else [true])]
    wanted += sorted(led, key=lambda label: (-led[label], label))
    wanted += final.tolist()
    return list(dict.fromkeys(wanted))[:LABELS_SHOWN]
