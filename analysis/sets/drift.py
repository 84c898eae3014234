"""How far the final embeddings of one version lie from those of another."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis.sets.candidates import PENALTY
from analysis.sets.facts import SetFacts
from analysis.sets.images import Draw, Images, generator, label_name, named, pick_images, random_state, sample
from analysis.sets.notes import Notes
from analysis.sets.schema_pairs import (
    ClassifierDrift,
    ClassMix,
    ClassShare,
    Drift,
    Histogram,
    SameSet,
    Unlike,
)
from jobs.errors import IncomparableError

SAMPLED: Final = 2000
PERMUTATIONS: Final = 1000
REPEATS: Final = 200
FOLDS: Final = 5
LEAST_CLASSIFIED: Final = 10
CHANGED_P: Final = 0.01
CHANGED_SHARE: Final = 0.05
TOLD_SHARES: Final = 50
TOLD_UNLIKE: Final = 24
BINS: Final = 30
WEIGHTS: Final = ("id", "revision", "weights_sha256")


def measure_drift(facts: SetFacts, reference: SetFacts, notes: Notes) -> Drift | None:
    """Drift of `facts` from `reference`; None where either has fewer than two images.

    Raises:
        IncomparableError: the two are embedded by different models, so that their distance means nothing.
    """
    for part in WEIGHTS:
        if facts.origin.model.get(part) != reference.origin.model.get(part):
            raise IncomparableError("Drift is measured within one model: the two differ in their weights.")
    then, now = pick_images(reference), pick_images(facts)
    if min(len(then), len(now)) < 2:  # noqa: PLR2004 - one image has no distance within its version
        notes.say("drift-too-few", "Drift needs two images in each version at least.")
        return None
    chance = generator(facts.seed, Draw.PERMUTATIONS)
    sampled = sample(then.rows, SAMPLED, facts.seed, Draw.DRIFT)
    current = sample(now.rows, SAMPLED, facts.seed, Draw.DRIFT)
    old, new = reference.vectors[sampled], facts.vectors[current]
    bandwidth = float(np.median(pdist(old)))
    if not bandwidth:
        notes.say("drift-no-spread", "The reference's embeddings are equal: the kernel's width is set to 1.")
        bandwidth = 1.0
    kernel = gaussian(np.concatenate([old, new]), bandwidth)
    inside = np.arange(len(kernel)) < len(old)
    mmd2 = float(unbiased_mmd2(kernel, inside[:, None])[0])
    permuted = unbiased_mmd2(kernel, _permutations(inside, PERMUTATIONS, chance))
    came, went = (witness(kernel, side) for side in (~inside, inside))
    mix = _class_mix(facts, now, reference, then)
    if mix and mix.changed:
        notes.say(
            "class-mix-changed",
            f"Shares of true labels differ between the versions by {mix.total_variation:.0%}: the drift may "
            "be that alone.",
        )
    return Drift(
        reference_version_id=reference.origin.version_id,
        reference_manifest_sha256=reference.origin.manifest_sha256,
        reference_n=len(old),
        n=len(new),
        bandwidth=bandwidth,
        mmd2=mmd2,
        p=float(1 + (permuted >= mmd2).sum()) / (1 + PERMUTATIONS),
        permutations=PERMUTATIONS,
        null_q95=float(np.quantile(permuted, 0.95)),
        permuted=_histogram(permuted),
        same_set=_same_set(kernel[: len(old), : len(old)], chance),
        classifier=_classify(old, new, reference.perceptual[sampled], facts.perceptual[current], facts.seed),
        class_mix=mix,
        came=_unlike(facts, current, came),
        went=_unlike(reference, sampled, went),
    )


def gaussian(vectors: NDArray[np.float32], bandwidth: float) -> NDArray[np.float64]:
    """exp(-d^2 / 2 bandwidth^2) of every pair, and 0 of each vector with itself, which no estimate counts."""
    kernel = np.exp(cdist(vectors, vectors, "sqeuclidean") / (-2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def unbiased_mmd2(kernel: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The unbiased squared MMD (Gretton et al. 2012, eq. 3) of each column of `inside` [vector, column].

    A column says which vectors are of the first set, the others are of the second; `kernel` has no diagonal.
    """
    first = inside.astype(np.float64)
    m, total = first.sum(axis=0), len(kernel)
    n = total - m
    within = kernel @ first
    both, all_pairs = (first * within).sum(axis=0), kernel.sum()
    across = within.sum(axis=0) - both
    rest = all_pairs - both - 2 * across
    return np.asarray(both / (m * (m - 1)) + rest / (n * (n - 1)) - 2 * across / (m * n))


def witness(kernel: NDArray[np.float64], side: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The witness function at each vector of `side` [vector], without itself: what it has the like of there.

    Mean kernel with the others of its side minus that with the rest (Gretton et al. 2012, section 2.3).
    """
    of = kernel[side]
    return np.asarray(of[:, side].sum(axis=1) / (side.sum() - 1) - of[:, ~side].mean(axis=1))


def _unlike(facts: SetFacts, rows: NDArray[np.int64], found: NDArray[np.float64]) -> list[Unlike]:
    """The rows with the highest witness, of those where it is positive."""
    order = np.lexsort((rows, -found))[:TOLD_UNLIKE]
    return [
        Unlike(
            **named(facts, int(rows[place])).model_dump(),
            true_label=label_name(facts, int(facts.true_label[rows[place]])),
            witness=float(found[place]),
        )
        for place in order.tolist()
        if found[place] > 0
    ]


def _histogram(values: NDArray[np.float64]) -> Histogram:
    counts, edges = np.histogram(values, BINS)
    return Histogram(low=float(edges[0]), high=float(edges[-1]), counts=counts.tolist())


def _permutations(inside: NDArray[np.bool_], times: int, chance: np.random.Generator) -> NDArray[np.bool_]:
    """Columns that put as many vectors inside, drawn anew."""
    return chance.permuted(np.tile(inside[:, None], times), axis=0)


def _same_set(kernel: NDArray[np.float64], chance: np.random.Generator) -> SameSet | None:
    half = len(kernel) // 2
    if half < 2:  # noqa: PLR2004 - one image has no distance within its half
        return None
    inside = np.arange(2 * half) < half
    null = unbiased_mmd2(kernel[: 2 * half, : 2 * half], _permutations(inside, REPEATS, chance))
    return SameSet(
        repeats=REPEATS,
        n=half,
        mean=float(null.mean()),
        q95=float(np.quantile(null, 0.95)),
        spread=_histogram(null),
    )


def _classify(
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    old_hashes: NDArray[np.uint64],
    new_hashes: NDArray[np.uint64],
    seed: int,
) -> ClassifierDrift | None:
    """A picture in both versions has both answers: its two copies share a fold."""
    groups = np.concatenate([old_hashes, new_hashes])
    folds = min(FOLDS, *(len(np.unique(hashes)) for hashes in (old_hashes, new_hashes)))
    if min(len(old), len(new)) < LEAST_CLASSIFIED or folds < FOLDS:
        return None
    vectors, version = np.concatenate([old, new]), np.repeat([0, 1], [len(old), len(new)])
    _, groups = np.unique(groups, return_inverse=True)
    # its steps are small: more threads would wait for each other longer than they work
    with threadpool_limits(1, "blas"):
        told = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=300)),
            vectors,
            version,
            groups=groups,
            cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=random_state(seed, Draw.FOLDS)),
            method="decision_function",
        )
    return ClassifierDrift(auroc=float(roc_auc_score(version, told)), folds=FOLDS)


def _class_mix(facts: SetFacts, now: Images, reference: SetFacts, then: Images) -> ClassMix | None:
    names = sorted({*facts.labels, *reference.labels})
    counts = np.array([_by_name(reference, then, names), _by_name(facts, now, names)])
    if not counts.sum(axis=1).all():
        return None
    shares = counts / counts.sum(axis=1, keepdims=True)
    variation = float(np.abs(shares[0] - shares[1]).sum() / 2)
    held = counts[:, counts.sum(axis=0) > 0]
    p = float(chi2_contingency(held).pvalue) if held.shape[1] > 1 else 1.0
    order = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")[:TOLD_SHARES]
    return ClassMix(
        total_variation=min(1.0, variation),
        p=p,
        changed=p < CHANGED_P and variation >= CHANGED_SHARE,
        shares=[
            ClassShare(label=names[place], reference=float(shares[0, place]), current=float(shares[1, place]))
            for place in order
        ],
    )


def _by_name(facts: SetFacts, images: Images, names: Sequence[str]) -> NDArray[np.int64]:
    """Labelled images of each name."""
    counts = np.bincount(images.true_label[images.labelled], minlength=len(facts.labels))
    by_name = dict(zip(facts.labels, counts.tolist(), strict=True))
    return np.array([by_name.get(name, 0) for name in names], dtype=np.int64)
