"""What the report of a set shows beside its summary, out of the facts that the summary was computed from."""

from pathlib import Path
from typing import Final

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from analysis.set_report.examples import read_examples
from analysis.set_report.facts import Pictures, Points, Supplement
from analysis.set_report.late_maps import read_late_maps
from analysis.set_report.picks import example_items, pick
from analysis.set_report.plates import read_plates
from analysis.sets.facts import SetFacts
from analysis.sets.findings import LABEL_MAPS
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
    count = len(facts.index)
    if count < FLAT or len(facts.labels) == 0:
        return None
    chance = np.random.default_rng([facts.seed, count])
    rows = np.sort(chance.choice(count, size=min(count, POINTS), replace=False))
    vectors = np.asarray(facts.vectors[rows], dtype=np.float64)
    if len(rows) < FEW:
        at = PCA(n_components=2, random_state=facts.seed).fit_transform(vectors)
        method = f"The first two principal components of the final embeddings of {len(rows):,} images."
    else:
        layout = TSNE(perplexity=PERPLEXITY, init="pca", random_state=facts.seed)
        # a thousand steps of a millisecond: threads that share a busy core would wait for each other at each
        with threadpool_limits(1):
            at = layout.fit_transform(vectors)
        method = (
            f"t-SNE (van der Maaten and Hinton 2008, perplexity {PERPLEXITY:g}) of the final embeddings of"
            f" {len(rows):,} images: neighbours are near each other, distances between groups say little."
        )
    return Points(
        at=np.asarray(at, dtype=np.float64),
        true_label=facts.true_label[rows],
        top=np.asarray(facts.cosine[rows, -1]).argmax(axis=1).astype(np.int32),
        method=method,
    )
