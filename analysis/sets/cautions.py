"""What the numbers of a set themselves give reason to say."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from analysis.sets.accuracy import FAILED_SHARE
from analysis.sets.facts import SetFacts
from analysis.sets.images import Images, told_images, truths_of
from analysis.sets.notes import Notes
from analysis.sets.schema import Counts, LayerSummary
from analysis.sets.strange import told

CONCENTRATED: Final = 0.5
"""A label on top of more than so many images, and of twice as many as are its own, is worth a warning."""


def warn(
    facts: SetFacts, counts: Counts, layers: Sequence[LayerSummary], images: Images, notes: Notes
) -> None:
    """Say what limits the numbers: failures, missing truths, and scores that are no answer."""
    if counts.failed > FAILED_SHARE * counts.total:
        notes.say(
            "many-failed",
            f"{counts.failed:,} of {counts.total:,} items failed: see the worst and the best case.",
        )
    if counts.dropped:
        notes.say(
            "not-computed",
            f"{counts.dropped:,} of {counts.total:,} items were never computed, since the job ended before "
            "them: all else is of the others, which need not be like them.",
        )
    _warn_of_truths(facts, images, notes)
    if len(facts.labels) == 1:
        notes.say("one-label", "A single label is always on top, and there are no margins.")
    elif len(images):
        _warn_of_scores(facts, layers, images, notes)


def _warn_of_truths(facts: SetFacts, images: Images, notes: Notes) -> None:
    known = len(told_images(facts, images))
    if known and facts.truths is not None:
        notes.say(
            "multi-label",
            "Several labels may be true of an image: each is told by itself, by AUROC and average precision, "
            "and nothing is said of accuracy, classes, confusion and label errors.",
        )
    if facts.strange:
        notes.say(
            "unknown-true-labels",
            f"{sum(facts.strange.values()):,} true labels of items are none of the job's labels:"
            f" {told(facts.strange)}. They count for nothing.",
        )
    if not len(images):
        notes.say("no-images", "No item has a result to summarise.")
    elif not known:
        notes.say(
            "no-true-labels", "No image has a true label among the labels: nothing is said of accuracy."
        )
    elif known < len(images):
        of = "accuracy is of these" if facts.truths is None else "AUROC and average precision are of these"
        notes.say("partly-labelled", f"{known:,} of {len(images):,} images have a true label; {of}.")
    if (
        len(images.labelled)
        and len(facts.labels) > 1
        and len(np.unique(images.true_label[images.labelled])) == 1
    ):
        notes.say("one-class", "All labelled images have the same true label.")


def _warn_of_scores(facts: SetFacts, layers: Sequence[LayerSummary], images: Images, notes: Notes) -> None:
    known = told_images(facts, images)
    shares = truths_of(facts, images, known).sum(axis=0) / max(1, len(known))
    for layer in layers:
        if layer.mean_top_margin is None:
            notes.say(
                "scores-constant", f"At layer {layer.layer} all labels score the same: no margins there."
            )
        if layer.most_predicted is None or layer.most_predicted_share is None:
            continue
        own = float(shares[facts.labels.index(layer.most_predicted)])
        if layer.most_predicted_share > max(CONCENTRATED, 2 * own):
            notes.say(
                "labels-concentrated",
                f"At layer {layer.layer} {layer.most_predicted!r} is on top of "
                f"{layer.most_predicted_share:.0%} of the images: that is the label, not the images.",
            )
