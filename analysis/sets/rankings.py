"""How well each label's scores tell its images from the others, at each layer."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, sample, told_images, truths_of
from analysis.sets.schema_labels import MultiLabel, RankedLabel

SAMPLED: Final = 20_000
Scores = NDArray[np.float32]
Truths = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Means over labels at each layer, None where no label has images and others, and of how many images.

    The average precision is told of sets alone in which several labels may be true; so are `labels`.
    """

    auroc: list[float | None]
    precision: list[float | None]
    n: int
    labels: MultiLabel | None


def rank_labels(facts: SetFacts, images: Images) -> Ranked:
    """The macro AUROC and average precision of each layer, and those of each label at the last.

    The area is the Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982), from ranks in
    which ties share their mean.
    """
    layers, several = len(facts.layers), facts.truths is not None
    known = sample(told_images(facts, images), SAMPLED, facts.seed, Draw.AUROC)
    truths, rows = truths_of(facts, images, known), images.rows[known]
    counts = truths.sum(axis=0)
    told = np.flatnonzero((counts > 0) & (counts < len(known)))
    own = truths[:, told]
    areas = [_areas(facts.cosine[rows, place][:, told], own) for place in range(layers)]
    precisions = [_precisions(facts.cosine[rows, place][:, told], own) for place in range(layers) if several]
    nothing: list[float | None] = [None] * layers
    return Ranked(
        auroc=[float(area.mean()) for area in areas] if len(told) else nothing,
        precision=[float(each.mean()) for each in precisions] if several and len(told) else nothing,
        n=len(known),
        labels=_tell(facts, counts, told, areas[-1], precisions[-1], len(known)) if several else None,
    )


def _areas(scores: Scores, own: Truths) -> NDArray[np.float64]:
    inside = own.sum(axis=0)
    wins = (rankdata(scores, axis=0) * own).sum(axis=0) - inside * (inside + 1) / 2
    areas: NDArray[np.float64] = wins / (inside * (len(own) - inside))
    return areas


def _precisions(scores: Scores, own: Truths) -> NDArray[np.float64]:
    return np.array(
        [average_precision_score(own[:, label], scores[:, label]) for label in range(own.shape[1])]
    )


def _tell(
    facts: SetFacts,
    counts: NDArray[np.int64],
    told: NDArray[np.int64],
    areas: NDArray[np.float64],
    precisions: NDArray[np.float64],
    images: int,
) -> MultiLabel:
    """Every label, the worst told first, then those of which nothing can be said."""
    found = dict(zip(told.tolist(), zip(areas.tolist(), precisions.tolist(), strict=True), strict=True))
    labels = []
    for label, name in enumerate(facts.labels):
        area, precision = found.get(label, (None, None))
        labels.append(RankedLabel(label=name, n=int(counts[label]), auroc=area, average_precision=precision))
    labels.sort(key=lambda each: (each.auroc is None, each.auroc or 0.0))
    return MultiLabel(n=images, mean_labels=float(counts.sum()) / images if images else None, labels=labels)
