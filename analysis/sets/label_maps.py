"""Where each label is read: its mean map over its own images, less that over the images of other labels."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.sets.facts import SampledMaps, SetFacts
from analysis.sets.images import Images, slices, told_images, truths_of
from analysis.sets.notes import Notes
from analysis.sets.schema_labels import LabelMap, LabelMaps

LEAST_IMAGES: Final = 5
"""Of fewer images, with the label or without it, a mean shows the images and not the label."""


@dataclass(frozen=True, slots=True, eq=False)
class MeanMaps:
    """Mean maps [label, row, col] over images of the label and over others, and of how many they are [label].

    NaN where there are no such images.
    """

    own: NDArray[np.float64]
    others: NDArray[np.float64]
    n: NDArray[np.int64]
    n_other: NDArray[np.int64]
    images: int

    @property
    def told(self) -> NDArray[np.int64]:
        """The labels with images enough, the most frequent first."""
        enough = (self.n >= LEAST_IMAGES) & (self.n_other >= LEAST_IMAGES)
        order = np.lexsort((np.arange(len(self.n)), -self.n))
        return order[enough[order]]

    @property
    def difference(self) -> NDArray[np.float64]:
        """What is read of a label where it is true beyond what is read of it anyway."""
        return self.own - self.others


def mean_maps(facts: SetFacts, images: Images, notes: Notes) -> MeanMaps | None:
    """The means over labelled images that have maps, each image once; None where no maps were kept."""
    if facts.maps is None:
        if len(told_images(facts, images)):
            notes.say(
                "label-maps-none", "The job kept no maps of its labels: where they are read is not told."
            )
        return None
    places, true = _labelled(facts, facts.maps, images)
    values = facts.maps.values
    labels, *grid = values.shape[1:]
    own, every = np.zeros((2, labels, *grid))
    for part in slices(len(places), 8 * values[0].size if len(values) else 1):
        block = values[places[part]].astype(np.float64)
        every += block.sum(axis=0)
        own += (block * true[part, :, None, None]).sum(axis=0)
    n = true.sum(axis=0)
    n_other = len(true) - n
    with np.errstate(invalid="ignore", divide="ignore"):
        means = MeanMaps(
            own / n[:, None, None], (every - own) / n_other[:, None, None], n, n_other, len(true)
        )
    if len(true) and not len(means.told):
        notes.say("label-maps-few", f"Maps need {LEAST_IMAGES} images of a label and as many of others.")
    return means


def tell_maps(facts: SetFacts, means: MeanMaps | None) -> LabelMaps | None:
    """What the summary says of the maps."""
    if facts.maps is None or means is None:
        return None
    rows, cols = means.own.shape[1:]
    return LabelMaps(
        layer=facts.maps.layer,
        method=facts.maps.method,
        grid=[rows, cols],
        n=means.images,
        labels=[_tell(facts.labels[label], means, label) for label in means.told.tolist()],
    )


def _tell(name: str, means: MeanMaps, label: int) -> LabelMap:
    difference = means.difference[label]
    row, col = np.unravel_index(int(difference.argmax()), difference.shape)
    return LabelMap(
        label=name,
        n=int(means.n[label]),
        n_other=int(means.n_other[label]),
        highest=float(difference.max()),
        row=int(row),
        col=int(col),
        lowest=float(difference.min()),
    )


def _labelled(
    facts: SetFacts, maps: SampledMaps, images: Images
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places in the maps, of labelled images, each once, and which labels are true of each."""
    of, first = np.unique(images.of_row[maps.rows], return_index=True)
    kept = np.isin(of, told_images(facts, images))
    return first[kept], truths_of(facts, images, of[kept])
