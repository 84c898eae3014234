"""Images whose final embeddings lie apart from the others."""

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import LocalOutlierFactor

from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, label_name, named, random_state, sample, slices
from analysis.sets.notes import Notes
from analysis.sets.schema_items import Outlier, Outliers
from analysis.sets.scores import Scores

NEIGHBOURS: Final = 20
LEAST_IMAGES: Final = 10
MOST_COMPARED: Final = 20_000
"""Beyond so many images neighbours are sought in a sample, and in fewer dimensions."""
REFERENCE: Final = 2000
DIMENSIONS: Final = 32
BATCH_WIDTH: Final = 64
"""Numbers that an image takes while it is scored: batches larger than slices of vectors halve the time."""
TOLD: Final = 50
ABSURD: Final = 1e6
"""No distances make such a factor: more vectors than there are neighbours are equal."""


def score_outliers(
    facts: SetFacts, images: Images, groups: NDArray[np.int64], notes: Notes
) -> tuple[NDArray[np.float32], int]:
    """The local outlier factor of each image, NaN where there are too few; and among how many it was sought.

    Near-duplicates (equal `groups` [image]) would be each other's dense neighbourhood: the first of a group
    stands for it.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < LEAST_IMAGES:
        notes.say("outliers-too-few", f"Outliers are not sought among fewer than {LEAST_IMAGES} images.")
        return np.full(len(images), np.nan, dtype=np.float32), 0
    rows = images.rows[first]
    with warnings.catch_warnings():
        # that equal vectors make scores too high is said to the reader, below
        warnings.simplefilter("ignore", UserWarning)
        if len(rows) <= MOST_COMPARED:
            factor = LocalOutlierFactor(min(NEIGHBOURS, len(rows) - 1)).fit(facts.vectors[rows])
            scores, reference = -factor.negative_outlier_factor_, len(rows)
        else:
            scores, reference = _score_by_sample(facts, rows), REFERENCE
            notes.say(
                "outliers-sampled",
                f"Outlier scores are relative to {REFERENCE:,} sampled images, in {DIMENSIONS} principal "
                "dimensions and the distance from them.",
            )
    if scores.max() > ABSURD:
        notes.say(
            "outliers-equal", "Many images have equal embeddings: outlier scores beside them are too high."
        )
    return np.asarray(scores, dtype=np.float32)[group], reference


def tell_outliers(
    facts: SetFacts, images: Images, scores: Scores, factors: NDArray[np.float32], reference: int
) -> Outliers:
    """The highest scores."""
    scored = np.flatnonzero(np.isfinite(factors))
    order = scored[np.argsort(-factors[scored], kind="stable")][:TOLD]
    return Outliers(
        n=len(scored),
        reference_n=reference,
        neighbours=min(NEIGHBOURS, reference - 1) if reference else 0,
        median=float(np.median(factors[scored])) if len(scored) else None,
        p99=float(np.quantile(factors[scored], 0.99)) if len(scored) else None,
        items=[
            Outlier(
                **named(facts, images.rows[image]).model_dump(),
                score=float(factors[image]),
                true_label=label_name(facts, int(images.true_label[image])),
                top=facts.labels[scores.top[images.rows[image], -1]],
            )
            for image in order
        ],
    )


def _score_by_sample(facts: SetFacts, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Factors against a sample, read in slices."""
    within = sample(np.arange(len(rows)), REFERENCE, facts.seed, Draw.OUTLIERS)
    sampled = facts.vectors[rows[within]]
    state = random_state(facts.seed, Draw.AXES)
    axes = PCA(min(DIMENSIONS, sampled.shape[1]), svd_solver="randomized", random_state=state).fit(sampled)
    factor = LocalOutlierFactor(NEIGHBOURS, novelty=True).fit(_project(axes, sampled))
    scores = np.empty(len(rows), dtype=np.float32)
    for batch in slices(len(rows), 4 * BATCH_WIDTH):
        projected = [
            _project(axes, facts.vectors[rows[batch][part]])
            for part in slices(batch.stop - batch.start, 4 * sampled.shape[1])
        ]
        scores[batch] = -factor.score_samples(np.concatenate(projected))
    # as new ones they would be their own nearest neighbours: too dense
    scores[within] = -factor.negative_outlier_factor_
    return scores


def _project(axes: PCA, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates along the axes, and the distance from what these span: apart there is apart too."""
    along = axes.transform(vectors)
    # of vectors of norm 1 the squared distance from the mean takes one product
    apart = 1 - 2 * (vectors @ axes.mean_) + axes.mean_ @ axes.mean_ - (along**2).sum(axis=1)
    return np.column_stack([along, np.sqrt(np.maximum(apart, 0))]).astype(np.float32)
