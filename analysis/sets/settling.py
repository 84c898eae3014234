"""From which layer on images keep their final label."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.sets.accuracy import depth
from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Images, label_name, named
from analysis.sets.schema import LateFlip, Settle, SettleCurve
from analysis.sets.scores import Scores

TOLD_LATE: Final = 48


def summarize_settling(facts: SetFacts, images: Images, scores: Scores) -> Settle:
    """When images settle: all of them, and labelled ones by whether their final label is true."""
    settled = scores.settled[images.rows]
    final, true = scores.top[images.rows, -1], images.true_label
    right = final == true
    return Settle(
        depth=[depth(facts.layers, place) for place in range(len(facts.layers))],
        curves=[
            _curve("all", facts, settled),
            _curve("right", facts, settled[right]),
            _curve("wrong", facts, settled[~right & (true != UNLABELLED)]),
        ],
        late=_late(facts, images, scores),
    )


def median_layer(layers: NDArray[np.int64], settled: NDArray[np.int64]) -> float | None:
    """The median of the layers at these places."""
    return float(np.median(layers[settled])) if len(settled) else None


def _curve(of: Literal["all", "right", "wrong"], facts: SetFacts, settled: NDArray[np.int64]) -> SettleCurve:
    counts = np.bincount(settled, minlength=len(facts.layers))
    return SettleCurve(
        of=of,
        n=len(settled),
        counts=counts.tolist(),
        cumulative=(np.cumsum(counts) / len(settled)).tolist() if len(settled) else [],
        median=median_layer(np.asarray(facts.layers), settled),
    )


def _late(facts: SetFacts, images: Images, scores: Scores) -> list[LateFlip]:
    rows = images.rows[scores.settled[images.rows] > 0]
    order = np.lexsort((rows, -scores.margin[rows], -scores.settled[rows]))
    return [
        LateFlip(
            **named(facts, row).model_dump(),
            settle_layer=facts.layers[scores.settled[row]],
            before=facts.labels[scores.top[row, scores.settled[row] - 1]],
            top=facts.labels[scores.top[row, -1]],
            true_label=label_name(facts, int(facts.true_label[row])),
        )
        for row in rows[order[:TOLD_LATE]]
    ]
