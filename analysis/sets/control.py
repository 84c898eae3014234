"""What a layer holds: the nearest class centroid of its own embeddings."""

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestCentroid

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Draw, Images, random_state
from analysis.sets.notes import Notes

FOLDS: Final = 5


def controls(
    facts: SetFacts, images: Images, groups: NDArray[np.int64], notes: Notes
) -> tuple[list[float | None], int]:
    """Of each layer the share of sampled images nearest to the centroid of their class, and of how many.

    Centroids are of the other folds; `groups` [image] share a fold. An image whose class has no image in them
    is not judged. None where no two classes have images in two groups.
    """
    places, of = _sampled_images(facts, images)
    true, group = images.true_label[of], groups[of]
    if not _separable(true, group):
        return [None] * len(facts.layers), 0
    folds = [
        (training, test[np.isin(true[test], true[training])]) for training, test in split(group, facts.seed)
    ]
    judged = sum(len(test) for _, test in folds)
    if judged < len(of):
        notes.say(
            "control-left-out",
            f"{len(of) - judged:,} images are not judged by the control: theirs are all images of their true"
            " labels in the sample, or look like all others.",
        )
    return [
        _nearest_centroid(facts.layer_vectors[places, layer], true, folds)
        for layer in range(len(facts.layers))
    ], judged


def split(groups: NDArray[np.int64], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """At most five folds (training, test) that keep groups together."""
    folds = GroupKFold(
        min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=random_state(seed, Draw.FOLDS)
    )
    return list(folds.split(groups, groups=groups))


def _sampled_images(facts: SetFacts, images: Images) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in `layer_vectors`, and the labelled images that they are of, each once."""
    of, first = np.unique(images.of_row[facts.sampled], return_index=True)
    kept = (of >= 0) & (images.true_label[of] != UNLABELLED)
    return first[kept], of[kept]


def _separable(true: NDArray[np.int32], groups: NDArray[np.int64]) -> bool:
    """Whether two classes have images in two groups at least."""
    pairs = np.unique(np.column_stack([true, groups]), axis=0)
    return int((np.bincount(pairs[:, 0], minlength=1) > 1).sum()) > 1


def _nearest_centroid(
    vectors: NDArray[np.float32],
    true: NDArray[np.int32],
    folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> float | None:
    # equal vectors tell no classes apart, and the classifier refuses them
    if np.ptp(vectors, axis=0).max() == 0:
        return None
    hits = judged = 0
    for training, test in folds:
        if not len(test):
            continue
        if len(np.unique(true[training])) < 2 or np.ptp(vectors[training], axis=0).max() == 0:  # noqa: PLR2004 - one class is nothing to tell apart
            return None
        # deviations within classes, which only a shrinking classifier needs, are undefined for single images
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = NearestCentroid().fit(vectors[training], true[training]).predict(vectors[test])
        hits += int((found == true[test]).sum())
        judged += len(test)
    return hits / judged if judged else None
