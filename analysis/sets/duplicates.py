"""Items with the same bytes, images that look alike, and the groups that both make."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Draw, Images, named, random_state, sample
from analysis.sets.lookalikes import (
    HASH_BITS,
    SAMPLED,
    Lookalikes,
    find_lookalikes,
    find_threshold,
    reach,
)
from analysis.sets.notes import Notes
from analysis.sets.schema_items import DuplicateGroup, Duplicates

TOLD_GROUPS: Final = 100
TOLD_ITEMS: Final = 12
THRESHOLD_METHOD: Final = (
    "The cosine that 99.9 % of pairs of at most 2,000 sampled images do not exceed, of those whose "
    "perceptual hashes differ in more than 16 bits; at least 0.9."
)


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Groups of items.

    - `image_group` [image]: equal for near-duplicates; numbers without gaps, by the first image of a group.
    - `item_group` [row]: `index` of the first item of the row's group, of near-duplicates and of items with
      the same bytes; -1 of an item that stands alone.
    """

    image_group: NDArray[np.int64]
    item_group: NDArray[np.int64]
    threshold: float | None
    lookalikes: Lookalikes


def group_duplicates(facts: SetFacts, images: Images, notes: Notes) -> Grouping:
    """Group images that look alike, and the items behind them."""
    alone = np.arange(len(images))
    found = Lookalikes(alone, np.empty((0, 2), np.int64), np.empty(0, np.float32), cut=False)
    threshold = None
    if len(images) > 1:
        sampled = sample(alone, SAMPLED, facts.seed, Draw.THRESHOLD)
        hashes = facts.perceptual[images.rows]
        some = images.rows[sampled]
        threshold = find_threshold(facts.vectors[some], hashes[sampled], np.arange(len(some)))
        direction = _widest(facts.vectors[some], facts.seed)
        found = find_lookalikes(facts.vectors, images.rows, hashes, direction, threshold)
    if found.cut:
        notes.say(
            "duplicates-cut",
            f"So many images have similar perceptual hashes that each was compared with {reach(len(images))} "
            "at most: near-duplicates may have been missed.",
        )
    group = _number(found.group)
    return Grouping(group, _item_groups(facts, images, group), threshold, found)


def tell_duplicates(facts: SetFacts, images: Images, grouping: Grouping, notes: Notes) -> Duplicates:
    """The groups as the summary tells them."""
    kept = images.of_row >= 0
    copies = np.bincount(images.of_row[kept], minlength=len(images))
    sizes = np.bincount(grouping.image_group, minlength=1)
    least = np.full(len(sizes), np.inf, dtype=np.float32)
    np.minimum.at(least, grouping.image_group[grouping.lookalikes.pairs[:, 0]], grouping.lookalikes.cosine)
    groups = _told_groups(facts, images, grouping, sizes, least)
    contradicting = _contradicting(facts, grouping.item_group)
    if _contradicting(facts, np.where(kept & (copies[images.of_row] > 1), images.of_row, -1)):
        notes.say(
            "copies-contradict", "Items with the same bytes have different true labels; the first counts."
        )
    return Duplicates(
        exact_groups=int((copies > 1).sum()),
        exact_extra=int((copies - 1).sum()),
        near_groups=int((sizes > 1).sum()),
        near_images=int(sizes[sizes > 1].sum()),
        contradicting_groups=len(contradicting),
        cosine_threshold=grouping.threshold,
        threshold_method=THRESHOLD_METHOD,
        hash_bits=HASH_BITS,
        compared=len(images) if len(images) > 1 else 0,
        neighbours=reach(len(images)) if len(images) > 1 else 0,
        groups=groups,
    )


def _widest(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The direction [width] along which the vectors spread most."""
    if vectors.shape[1] == 1 or not np.ptp(vectors, axis=0).any():
        return np.ones(vectors.shape[1], dtype=np.float32)
    return np.asarray(
        TruncatedSVD(1, random_state=random_state(seed, Draw.AXES))
        .fit(vectors - vectors.mean(axis=0))
        .components_[0],
        dtype=np.float32,
    )


def _number(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered in the order in which they come up."""
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.asarray(place[inverse], dtype=np.int64)


def _item_groups(facts: SetFacts, images: Images, group: NDArray[np.int64]) -> NDArray[np.int64]:
    of_row = np.append(group, -1)[images.of_row]
    kept = np.flatnonzero(of_row >= 0)
    _, first, inverse, sizes = np.unique(
        of_row[kept], return_index=True, return_inverse=True, return_counts=True
    )
    named_by = np.full(len(of_row), -1, dtype=np.int64)
    named_by[kept] = np.where(sizes > 1, facts.index[kept][first], -1)[inverse]
    return named_by


def _contradicting(facts: SetFacts, group: NDArray[np.int64]) -> set[int]:
    """Numbers of the groups [row], none of them negative, whose items have more than one true label."""
    told = (group >= 0) & (facts.true_label != UNLABELLED)
    pairs = np.unique(np.column_stack([group[told], facts.true_label[told]]), axis=0)
    numbers, labels = np.unique(pairs[:, 0], return_counts=True)
    return {int(number) for number in numbers[labels > 1]}


def _told_groups(
    facts: SetFacts,
    images: Images,
    grouping: Grouping,
    sizes: NDArray[np.int64],
    least: NDArray[np.float32],
) -> list[DuplicateGroup]:
    rows = np.flatnonzero(grouping.item_group >= 0)
    rows = rows[np.argsort(grouping.item_group[rows], kind="stable")]
    numbers, starts = np.unique(grouping.item_group[rows], return_index=True)
    members = dict(zip(numbers.tolist(), np.split(rows, starts[1:]), strict=True)) if len(numbers) else {}
    contradicting = _contradicting(facts, grouping.item_group)
    order = sorted(members, key=lambda number: (number not in contradicting, -len(members[number]), number))
    told = []
    for number in order[:TOLD_GROUPS]:
        held = members[number]
        place = grouping.image_group[images.of_row[held[0]]]
        labels = dict.fromkeys(label for label in facts.true_label[held].tolist() if label != UNLABELLED)
        told.append(
            DuplicateGroup(
                size=len(held),
                items=[named(facts, row) for row in held[:TOLD_ITEMS]],
                exact=bool(sizes[place] == 1),
                true_labels=[facts.labels[label] for label in labels],
                min_cosine=float(least[place]) if sizes[place] > 1 else None,
            )
        )
    return told
