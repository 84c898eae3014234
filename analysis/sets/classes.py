"""True labels one by one, and which are taken for which."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import SetFacts
from analysis.sets.images import Images, named
from analysis.sets.notes import Notes
from analysis.sets.resampling import wilson
from analysis.sets.schema import ClassSummary, Confused, Confusion
from analysis.sets.scores import Scores
from analysis.sets.settling import median_layer

RANKED_IMAGES: Final = 20
MOST_LABELS: Final = 500
TOLD_PAIRS: Final = 30
TOLD_ITEMS: Final = 12


def summarize_classes(facts: SetFacts, images: Images, scores: Scores, notes: Notes) -> list[ClassSummary]:
    """Every label, those with images enough for a ranking by recall, lowest first."""
    rows, true = images.rows[images.labelled], images.true_label[images.labelled]
    right = scores.top[rows] == true[:, None]
    by_label = np.split(np.argsort(true, kind="stable"), np.cumsum(_counts(true, facts))[:-1])
    predicted = _counts(scores.top[rows, -1], facts)
    told = [
        _summarize_class(facts, label, right[of], scores.settled[rows[of]], int(predicted[label]))
        for label, of in enumerate(by_label)
    ]
    small = sum(0 < each.n < RANKED_IMAGES for each in told)
    if small:
        notes.say(
            "small-classes", f"{small} labels have fewer than {RANKED_IMAGES} images: shown, not ranked."
        )
    return sorted(told, key=lambda each: (not each.ranked, each.recall if each.ranked else -each.n))


def summarize_confusion(facts: SetFacts, images: Images, scores: Scores, notes: Notes) -> Confusion:
    """True labels against final top labels."""
    labels = len(facts.labels)
    rows, true = images.rows[images.labelled], images.true_label[images.labelled]
    cell = true.astype(np.int64) * labels + scores.top[rows, -1]
    cells, counts = np.unique(cell, return_counts=True)
    matrix: list[list[int]] = []
    if labels > MOST_LABELS:
        notes.say(
            "confusion-too-large", f"Of more than {MOST_LABELS} labels the confusion has its pairs only."
        )
    elif len(rows):
        matrix = np.bincount(cell, minlength=labels**2).reshape(labels, labels).tolist()
    wrong = np.flatnonzero(cells // labels != cells % labels)
    often = wrong[np.lexsort((cells[wrong], -counts[wrong]))][:TOLD_PAIRS]
    totals = _counts(true, facts)
    return Confusion(
        n=len(rows),
        matrix=matrix,
        pairs=[
            Confused(
                true_label=facts.labels[cells[place] // labels],
                top=facts.labels[cells[place] % labels],
                count=int(counts[place]),
                share=float(counts[place] / totals[cells[place] // labels]),
                items=[named(facts, row) for row in _widest(rows[cell == cells[place]], scores)],
            )
            for place in often
        ],
    )


def _summarize_class(
    facts: SetFacts, label: int, right: NDArray[np.bool_], settled: NDArray[np.int64], predicted: int
) -> ClassSummary:
    n, hits = len(right), int(right[:, -1].sum())
    between = wilson(hits, n) if n else None
    return ClassSummary(
        label=facts.labels[label],
        n=n,
        ranked=n >= RANKED_IMAGES,
        recall=hits / n if n else None,
        ci_low=between[0] if between else None,
        ci_high=between[1] if between else None,
        precision=hits / predicted if predicted else None,
        predicted=predicted,
        recall_by_layer=right.mean(axis=0).tolist() if n else [],
        settled_by_layer=(
            (np.cumsum(np.bincount(settled, minlength=len(facts.layers))) / n).tolist() if n else []
        ),
        median_settle_layer=median_layer(np.asarray(facts.layers), settled),
    )


def _counts(labels: NDArray[np.int32] | NDArray[np.int16], facts: SetFacts) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=len(facts.labels))


def _widest(rows: NDArray[np.int64], scores: Scores) -> NDArray[np.int64]:
    """The rows whose true label is furthest behind."""
    return rows[np.argsort(scores.true_margin[rows], kind="stable")][:TOLD_ITEMS]
