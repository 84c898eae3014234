"""True labels that may be wrong."""

from typing import Final

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis.sets.control import FOLDS, split
from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, named, sample, slices
from analysis.sets.notes import Notes
from analysis.sets.schema_items import LabelCandidate, LabelCandidates
from analysis.sets.scores import Scores

JUDGED: Final = 100_000
TRAINED: Final = 5000
"""Images that the probe of a fold learns from at most."""
PENALTY: Final = 0.1
"""`C` of the logistic regression, of vectors whose columns have variance 1."""
TOLD: Final = 100


def find_candidates(
    facts: SetFacts, images: Images, scores: Scores, groups: NDArray[np.int64], notes: Notes
) -> LabelCandidates:
    """Images whose true label a probe that never saw them does not believe; `groups` [image] share folds."""
    classes, judged = _judged(facts, images, groups, notes)
    if len(classes) < 2:  # noqa: PLR2004 - one class leaves nothing to mistake it for
        if facts.truths is None:
            notes.say(
                "candidates-none",
                f"Label errors are sought among at least two labels with images in {FOLDS} groups each.",
            )
        return LabelCandidates(n=0, folds=0, probe_top1=None, found=0, items=[])
    true = np.searchsorted(classes, images.true_label[judged])
    probability = _cross_validate(facts, images.rows[judged], true, groups[judged], len(classes))
    found = find_label_issues(
        true,
        probability,
        return_indices_ranked_by="self_confidence",
        filter_by="confident_learning",
        min_examples_per_class=0,
        n_jobs=1,
    )
    guess = probability.argmax(axis=1)
    return LabelCandidates(
        n=len(judged),
        folds=FOLDS,
        probe_top1=float((guess == true).mean()),
        found=len(found),
        items=[
            LabelCandidate(
                **named(facts, images.rows[judged[place]]).model_dump(),
                true_label=facts.labels[classes[true[place]]],
                suggested=facts.labels[classes[guess[place]]],
                true_probability=min(1.0, float(probability[place, true[place]])),
                suggested_probability=min(1.0, float(probability[place, guess[place]])),
                top=facts.labels[scores.top[images.rows[judged[place]], -1]],
            )
            for place in found[:TOLD]
        ],
    )


def _judged(
    facts: SetFacts, images: Images, groups: NDArray[np.int64], notes: Notes
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The labels that can be judged, ascending, and a sample of their images."""
    known = sample(images.labelled, JUDGED, facts.seed, Draw.CANDIDATES)
    if len(known) < len(images.labelled):
        notes.say("candidates-sampled", f"Label errors were sought among {len(known):,} sampled images.")
    pairs = np.unique(np.column_stack([images.true_label[known], groups[known]]), axis=0)
    labels, spread = np.unique(pairs[:, 0], return_counts=True)
    classes = labels[spread >= FOLDS].astype(np.int32)
    if 0 < len(classes) < len(labels):
        notes.say(
            "candidates-small-classes",
            f"Label errors were not sought among {len(labels) - len(classes)} labels with images in fewer "
            f"than {FOLDS} groups.",
        )
    return classes, known[np.isin(images.true_label[known], classes)]


def _cross_validate(
    facts: SetFacts, rows: NDArray[np.int64], true: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> NDArray[np.float32]:
    """Probabilities [row, class] from probes that did not see the row's fold."""
    probability = np.zeros((len(rows), classes), dtype=np.float32)
    for training, test in split(groups, facts.seed):
        learned = sample(training, TRAINED, facts.seed, Draw.PROBE)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=300))
        # a fold may hold all there is of a class: then the probe has no column for it
        seen = np.unique(true[learned])
        if len(seen) < 2:  # noqa: PLR2004 - one class is nothing to tell apart
            probability[np.ix_(test, seen)] = 1
            continue
        # its steps are small: more threads would wait for each other longer than they work
        with threadpool_limits(1, "blas"):
            probe.fit(facts.vectors[rows[learned]], true[learned])
        for part in slices(len(test), 4 * facts.vectors.shape[1]):
            probability[np.ix_(test[part], seen)] = probe.predict_proba(facts.vectors[rows[test[part]]])
    return probability
