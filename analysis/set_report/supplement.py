"""What the report of a set shows beside its summary, out of the facts that the summary was computed from."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from analysis.set_report.examples import read_examples
from analysis.set_report.facts import Pictures, Points, Supplement
from analysis.set_report.figures import per_cent
from analysis.set_report.late_maps import read_late_maps
from analysis.set_report.picks import example_items, pick
from analysis.set_report.plates import read_plates
from analysis.sets.facts import SetFacts
from analysis.sets.findings import LABEL_MAPS
from analysis.sets.images import pick_images
from analysis.sets.schema import Summary

POINTS: Final = 1_000
PERPLEXITY: Final = 30.0
FEW: Final = 100
"""With fewer points than this there are no neighbourhoods to lay out: two axes say as much."""
FLAT: Final = 3


def supplement_of(facts: SetFacts, summary: Summary, folder: Path, pictures: Pictures) -> Supplement:
    """Examples with their ranks, maps of late items and of labels, the map of a sample, and every failure.

    `folder` holds the files of the summary, which are to lie beside the page; `pictures` are thumbnails.
    """
    return Supplement(
        failed=facts.failed,
        examples=read_examples(facts, example_items(summary)),
        maps=read_late_maps(facts, pick(summary).late, pictures),
        points=_points(facts),
        label_maps=read_plates(folder / LABEL_MAPS, summary),
        file_url=lambda name: name,
    )


def _points(facts: SetFacts) -> Points | None:
    images = pick_images(facts).rows
    count = len(images)
    if count < FLAT or len(facts.labels) == 0:
        return None
    chance = np.random.default_rng([facts.seed, count])
    rows = np.sort(chance.choice(images, size=min(count, POINTS), replace=False))
    vectors = np.asarray(facts.vectors[rows], dtype=np.float64)
    at, method = _project(vectors, facts.seed) if len(rows) < FEW else _lay_out(vectors, facts.seed)
    return Points(
        at=np.asarray(at, dtype=np.float64),
        true_label=facts.true_label[rows],
        top=np.asarray(facts.cosine[rows, -1]).argmax(axis=1).astype(np.int32),
        method=method,
    )


def _project(vectors: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], str]:
    axes = PCA(n_components=2, random_state=seed)
    at = axes.fit_transform(vectors)
    # of equal vectors there is no variance to have a share of
    across, up = (per_cent(share) for share in np.nan_to_num(axes.explained_variance_ratio_).tolist())
    return at, (
        "Their final embeddings along the two directions in which these vary most (principal components):"
        f" across {across} of the variance, upwards {up}. Points apart are images apart; points that are near"
        " may be apart in other directions."
    )


def _lay_out(vectors: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], str]:
    layout = TSNE(perplexity=PERPLEXITY, init="pca", random_state=seed)
    # a thousand steps of a millisecond: threads that share a busy core would wait for each other at each
    with threadpool_limits(1):
        at = layout.fit_transform(vectors)
    return at, (
        f"t-SNE (van der Maaten and Hinton 2008, perplexity {PERPLEXITY:g}) of their final embeddings: near"
        " points are alike; far distances and directions mean nothing."
    )
