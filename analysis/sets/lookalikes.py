"""Pairs of images that are nearly the same: near in embedding, and near in perceptual hash.

Both conditions must hold, so either may be searched by; hashes are, since pairs that differ in few bits can
be found without comparing every image with every other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BITS: Final = 6
"""Bits of 64 in which the hashes of near-duplicates may differ. Unrelated pictures differ in about 32."""
UNRELATED_BITS: Final = 16
SAMPLED: Final = 2000
UNRELATED_SHARE: Final = 0.999
LEAST_THRESHOLD: Final = 0.9
MOST_THRESHOLD: Final = 0.9999
"""Rounding of float32 vectors keeps even equal pictures from 1."""

LEAST_REACH: Final = 50
MOST_CHECKED: Final = 5_000_000
BYTES: Final = 8
_SLICE_PAIRS = 1 << 13


@dataclass(frozen=True, slots=True, eq=False)
class Lookalikes:
    """What connects images.

    `group` [image] has equal numbers for images that pairs connect; `pairs` [pair, 2] are images and `cosine`
    [pair] theirs, of pairs enough to connect the groups. `cut` says that some pair may have been missed.
    """

    group: NDArray[np.int64]
    pairs: NDArray[np.int64]
    cosine: NDArray[np.float32]
    cut: bool


def reach(images: int) -> int:
    """With how many of the same key an image is compared at most: all of them in a small set."""
    return max(LEAST_REACH, MOST_CHECKED // max(1, images))


def find_threshold(
    vectors: NDArray[np.float32], hashes: NDArray[np.uint64], sampled: NDArray[np.int64]
) -> float:
    """The cosine that says more than that two pictures are of one kind, for this model and this set.

    Of images `sampled`: the cosine that 99.9 % of those pairs do not exceed whose hashes differ in more than
    16 bits, and which surely are different pictures; within 0.9..0.9999.
    """
    some = vectors[sampled]
    unrelated = (some @ some.T)[_bits(hashes[sampled][:, None], hashes[sampled]) > UNRELATED_BITS]
    if not len(unrelated):
        return LEAST_THRESHOLD
    return min(MOST_THRESHOLD, max(LEAST_THRESHOLD, float(np.quantile(unrelated, UNRELATED_SHARE))))


def find_lookalikes(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    direction: NDArray[np.float32],
    threshold: float,
) -> Lookalikes:
    """Images `rows` of `vectors` [row, width] and `hashes` [image] that pairs connect.

    Of 8 bytes at most 6 differ where 6 bits do, so that two are the same: every choice of two is a key to
    sort by, and each image is compared with the next ones of the same key, so many as `reach` says. Where
    more share a key, those are the nearest along `direction` [width].
    """
    along = np.concatenate(
        [vectors[part] @ direction for part in np.array_split(rows, len(rows) // 4096 + 1)]
    )
    group = np.arange(len(rows))
    pending: list[NDArray[np.int64]] = []
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), dtype=np.int64)]
    cosines: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)]
    left, cut = MOST_CHECKED, False
    for close, crowded in _close_pairs(np.argsort(along, kind="stable"), hashes):
        apart = close[group[close[:, 0]] != group[close[:, 1]]][:left]
        cosine = _cosines(vectors, rows, apart)
        near = cosine >= threshold
        pending.append(apart[near])
        pairs.append(apart[near])
        cosines.append(cosine[near])
        left, cut = left - len(apart), cut or crowded
        if not left:
            break
        # merging costs a walk over all images: it waits until it spares more comparisons than that
        if sum(map(len, pending)) * LEAST_REACH > len(rows):
            group, pending = _merge(group, pending), []
    return Lookalikes(
        _merge(group, pending) if pending else group,
        np.concatenate(pairs),
        np.concatenate(cosines),
        cut or not left,
    )


def _close_pairs(
    by_place: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Pairs of images whose hashes are near, and whether more of the key were left uncompared."""
    for shared, unsorted in _keys(hashes[by_place]):
        by_key = np.argsort(unsorted, kind="stable")
        order, key = by_place[by_key], unsorted[by_key]
        sorted_hashes = hashes[order]
        left = np.arange(len(order))
        for step in range(1, reach(len(order)) + 1):
            left = left[: np.searchsorted(left, len(order) - step)]
            left = left[key[left] == key[left + step]]
            if not len(left):
                break
            near = left[_bits(sorted_hashes[left], sorted_hashes[left + step]) <= HASH_BITS]
            # a pair that shares more bytes comes up under several keys: the first of them counts
            same = _bytes(sorted_hashes[near] ^ sorted_hashes[near + step]) == 0
            near = near[same[:, : shared[1]].sum(axis=1) == 1]
            yield (
                np.column_stack([order[near], order[near + step]]),
                step == reach(len(order)) and len(near) > 0,
            )


def _keys(hashes: NDArray[np.uint64]) -> Iterator[tuple[tuple[int, int], NDArray[np.uint16]]]:
    """Each choice of two of the hashes' bytes, and these as one number an image."""
    split = _bytes(hashes).astype(np.uint16)
    for first, second in combinations(range(BYTES), 2):
        yield (first, second), split[:, first] * np.uint16(256) + split[:, second]


def _bytes(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, BYTES)


def _bits(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(one ^ other))


def _cosines(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.float32]:
    cosine = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _SLICE_PAIRS):
        part = slice(start, start + _SLICE_PAIRS)
        ends = rows[pairs[part]]
        cosine[part] = np.einsum("pw,pw->p", vectors[ends[:, 0]], vectors[ends[:, 1]])
    return cosine


def _merge(group: NDArray[np.int64], pairs: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The groups once these pairs are connected too."""
    ends = group[np.concatenate(pairs)]
    edges = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(len(group),) * 2)
    _, merged = connected_components(edges, directed=False)
    return np.asarray(merged[group], dtype=np.int64)
