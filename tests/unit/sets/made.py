"""Sets made up from numbers: vectors around a centre of each label, scores that see it layer by layer."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.sets.facts import UNLABELLED, DroppedItems, FailedItem, Origin, SetFacts

WIDTH = 16
MODEL = {"id": "lensqueue/made", "revision": "r1", "weights_sha256": "0" * 64, "layers": 6}


def make_facts(
    images: int = 400,
    *,
    labels: int = 5,
    layers: Sequence[int] = (0, 2, 4, 6),
    seed: int = 0,
    unlabelled: float = 0.1,
    sampled: int | None = None,
    failed: Sequence[FailedItem] = (),
    version: str = "version-1",
    cosine: NDArray[np.float32] | None = None,
) -> SetFacts:
    """Different images, none alike."""
    chance = np.random.default_rng(seed)
    true = chance.integers(0, labels, images).astype(np.int32)
    centres = np.random.default_rng(99).standard_normal((labels, WIDTH))
    cosine = np.empty((images, len(layers), labels), np.float32) if cosine is None else cosine
    for start in range(0, images, 5000):
        part = slice(start, min(images, start + 5000))
        block = chance.normal(0, 0.05, (part.stop - start, len(layers), labels))
        block[:, 0, 0] += 0.06
        own = 0.12 * np.linspace(0, 1, len(layers))
        block[np.arange(part.stop - start), :, true[part]] += own
        cosine[part] = block
    rows = np.sort(chance.choice(images, min(images, sampled or images), replace=False))
    strength = np.linspace(0, 1, len(layers))[:, None] * centres[true[rows]][:, None]
    layer_vectors = chance.standard_normal((len(rows), len(layers), WIDTH)) + strength
    known = np.where(chance.random(images) < unlabelled, UNLABELLED, true).astype(np.int32)
    return SetFacts(
        origin=Origin("job-1", version, "ab" * 32, MODEL),
        layers=tuple(layers),
        labels=tuple(f"label {label}" for label in range(labels)),
        index=np.arange(images, dtype=np.int64) * 2,
        custom_ids=pa.chunked_array([[f"picture-{row}" for row in range(images)]], pa.string()),
        true_label=known,
        # other pictures than those of another seed
        contents=np.arange(images, dtype=np.int64)[::-1] + seed % 2**20 * 10_000_000,
        perceptual=chance.integers(0, 2**64, images, dtype=np.uint64),
        cosine=cosine,
        logit=np.asarray(cosine[:, -1] * 10),
        vectors=unit(centres[true] + chance.standard_normal((images, WIDTH))),
        sampled=rows.astype(np.int64),
        layer_vectors=unit(layer_vectors),
        failed=failed,
        seed=seed,
    )


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """The vectors at norm 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def repeat(
    facts: SetFacts, exact: Sequence[tuple[int, int]] = (), near: Sequence[tuple[int, int]] = ()
) -> SetFacts:
    """The same set, where the second row of each pair repeats the first: its bytes, or nearly its picture."""
    taken = {
        name: getattr(facts, name).copy()
        for name in ("contents", "perceptual", "cosine", "vectors", "true_label")
    }
    for first, second in exact:
        for values in taken.values():
            values[second] = values[first]
    for first, second in near:
        taken["vectors"][second] = unit(taken["vectors"][first] + 0.001 * taken["vectors"][second])
        taken["perceptual"][second] = taken["perceptual"][first] ^ np.uint64(0b1001 << 30)
    return dataclasses.replace(facts, **taken)


def failure(number: int, true_label: int = UNLABELLED, code: str = "image-truncated") -> FailedItem:
    """An item that has no result."""
    return FailedItem(2 * number + 1, None, true_label, code, "It ends early.")


def dropped(index: Sequence[int], true_label: Sequence[int]) -> DroppedItems:
    """Items that were never computed."""
    return DroppedItems(
        np.array(index, dtype=np.int64),
        pa.chunked_array([[f"dropped-{each}" for each in index]], pa.string()),
        np.array(true_label, dtype=np.int32),
    )
