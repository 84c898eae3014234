"""True labels one by one, and which are taken for which."""

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, generator, named
from analysis.sets.notes import Notes
from analysis.sets.resampling import percentiles, resample_means, wilson
from analysis.sets.schema import ClassSummary, Confused, Confusion
from analysis.sets.scores import Scores
from analysis.sets.settling import median_layer

RANKED_IMAGES: Final = 20
MOST_LABELS: Final = 500
TOLD_PAIRS: Final = 30
TOLD_ITEMS: Final = 12


class Interval(NamedTuple):
    """Of a share, how it was found, and of how many groups of near-duplicates the images are."""

    groups: int
    low: float
    high: float
    method: Literal["wilson", "cluster-bootstrap", "wilson-of-groups"]


def summarize_classes(
    facts: SetFacts, images: Images, scores: Scores, groups: NDArray[np.int64], notes: Notes
) -> list[ClassSummary]:
    """Every label, those with images enough for a ranking by recall, lowest first.

    Near-duplicates (equal `groups` [image]) count as one for that, and are drawn together for the interval.
    """
    rows, true = images.rows[images.labelled], images.true_label[images.labelled]
    right = scores.top[rows] == true[:, None]
    by_label = np.split(np.argsort(true, kind="stable"), np.cumsum(_counts(true, facts))[:-1])
    predicted = _counts(scores.top[rows, -1], facts)
    group, chance = groups[images.labelled], generator(facts.seed, Draw.CLASSES)
    told = [
        _summarize_class(
            facts,
            label,
            right[of],
            scores.settled[rows[of]],
            int(predicted[label]),
            _interval(right[of, -1], group[of], chance),
        )
        for label, of in enumerate(by_label)
    ]
    small = sum(each.n > 0 and not each.ranked for each in told)
    if small:
        notes.say(
            "small-classes",
            f"{small} labels have fewer than {RANKED_IMAGES} images, near-duplicates counted once: shown, not"
            " ranked.",
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
    facts: SetFacts,
    label: int,
    right: NDArray[np.bool_],
    settled: NDArray[np.int64],
    predicted: int,
    between: Interval | None,
) -> ClassSummary:
    n, hits = len(right), int(right[:, -1].sum())
    return ClassSummary(
        label=facts.labels[label],
        n=n,
        groups=between.groups if between else 0,
        ranked=between is not None and between.groups >= RANKED_IMAGES,
        recall=hits / n if n else None,
        ci_low=between.low if between else None,
        ci_high=between.high if between else None,
        method=between.method if between else None,
        precision=hits / predicted if predicted else None,
        predicted=predicted,
        recall_by_layer=right.mean(axis=0).tolist() if n else [],
        settled_by_layer=(
            (np.cumsum(np.bincount(settled, minlength=len(facts.layers))) / n).tolist() if n else []
        ),
        median_settle_layer=median_layer(np.asarray(facts.layers), settled),
    )


def _interval(
    right: NDArray[np.bool_], groups: NDArray[np.int64], chance: np.random.Generator
) -> Interval | None:
    """That of the share that is right, None without images."""
    if not len(right):
        return None
    n, among, hits = len(right), len(np.unique(groups)), int(right.sum())
    if among == n:
        return Interval(among, *wilson(hits, n), "wilson")
    if hits in {0, n}:
        # every resample would be the same
        return Interval(among, *wilson(among if hits else 0, among), "wilson-of-groups")
    low, high = percentiles(resample_means(right[:, None], groups, chance)[:, 0])
    return Interval(among, low, high, "cluster-bootstrap")


def _counts(labels: NDArray[np.int32] | NDArray[np.int16], facts: SetFacts) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=len(facts.labels))


def _widest(rows: NDArray[np.int64], scores: Scores) -> NDArray[np.int64]:
    """The rows whose true label is furthest behind."""
    return rows[np.argsort(scores.true_margin[rows], kind="stable")][:TOLD_ITEMS]
