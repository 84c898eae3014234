"""How well each label's scores tell its images from the others, at each layer."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, sample

SAMPLED: Final = 20_000


def macro_aurocs(facts: SetFacts, images: Images) -> tuple[list[float | None], int]:
    """The macro AUROC of each layer, and of how many images it is.

    The area is the Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982), from ranks in
    which ties share their mean.
    """
    known = sample(images.labelled, SAMPLED, facts.seed, Draw.AUROC)
    true = images.true_label[known]
    counts = np.bincount(true, minlength=len(facts.labels))
    told = np.flatnonzero((counts > 0) & (counts < len(known)))
    if not len(told):
        return [None] * len(facts.layers), len(known)
    rows = images.rows[known]
    return [
        _macro(facts.cosine[rows, place][:, told], true, told) for place in range(len(facts.layers))
    ], len(known)


def _macro(scores: NDArray[np.float32], true: NDArray[np.int32], told: NDArray[np.int64]) -> float:
    own = true[:, None] == told
    inside = own.sum(axis=0)
    wins = (rankdata(scores, axis=0) * own).sum(axis=0) - inside * (inside + 1) / 2
    return float((wins / (inside * (len(true) - inside))).mean())
