"""How far the final embeddings of one version lie from those of another."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from analysis.sets.images import Draw, Images, generator, label_name, named, pick_images, random_state
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
ROUNDING: Final = 1e-12
WEIGHTS: Final = ("id", "revision", "weights_sha256")


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """The images of two versions that are measured, each once.

    Its `vectors` and `perceptual` hash, whether it was measured `before`, in the reference, and `after`; its
    row of the facts of the version that it `came` with or `went` with, which alone has it. `shared` counts
    the images of both versions, measured or not.
    """

    vectors: NDArray[np.float32]
    perceptual: NDArray[np.uint64]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    rows: NDArray[np.int64]
    came: NDArray[np.bool_]
    went: NDArray[np.bool_]
    shared: int


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
    union = measured_images(facts, now, reference, then)
    bandwidth = float(np.median(pdist(union.vectors[union.before])))
    if not bandwidth:
        notes.say("drift-no-spread", "The reference's embeddings are equal: the kernel's width is set to 1.")
        bandwidth = 1.0
    if not (union.came.any() or union.went.any()):
        notes.say("drift-none", "Both versions hold the same images: nothing can have drifted.")
    kernel = gaussian(union.vectors, bandwidth)
    mmd2 = float(unbiased_mmd2(kernel, union.before[:, None], union.after[:, None])[0])
    order = _orders(len(kernel), PERMUTATIONS, chance)
    permuted = unbiased_mmd2(kernel, union.before[order], union.after[order])
    mix = _class_mix(facts, now, reference, then, notes)
    if mix and mix.changed:
        notes.say(
            "class-mix-changed",
            f"Shares of true labels differ between the versions by {mix.total_variation:.0%}: the drift may "
            "be that alone.",
        )
    return Drift(
        reference_version_id=reference.origin.version_id,
        reference_manifest_sha256=reference.origin.manifest_sha256,
        reference_n=int(union.before.sum()),
        n=int(union.after.sum()),
        shared=union.shared,
        bandwidth=bandwidth,
        mmd2=mmd2,
        p=float(1 + (permuted >= mmd2 - ROUNDING).sum()) / (1 + PERMUTATIONS),
        permutations=PERMUTATIONS,
        null_q95=float(np.quantile(permuted, 0.95)),
        permuted=_histogram(permuted),
        same_set=_same_set(kernel[np.ix_(union.before, union.before)], chance),
        classifier=_classify(union, facts.seed),
        class_mix=mix,
        came=_unlike(facts, union.rows[union.came], witness(kernel, union.after, union.before)[union.came]),
        went=_unlike(
            reference, union.rows[union.went], witness(kernel, union.before, union.after)[union.went]
        ),
    )


def measured_images(facts: SetFacts, now: Images, reference: SetFacts, then: Images) -> Union:
    """The images of both versions, of each a sample at most.

    Samples are of those that come first in one order of all pictures: what is in both versions is drawn for
    both or for neither, as far as it goes.
    """
    old, new = reference.contents[then.rows], facts.contents[now.rows]
    pictures = np.union1d(old, new)
    place = generator(facts.seed, Draw.DRIFT).permutation(len(pictures))
    drawn, current = (
        np.sort(np.argsort(place[np.searchsorted(pictures, held)])[:SAMPLED]) for held in (old, new)
    )
    added = current[~np.isin(new[current], old[drawn])]
    rows = [then.rows[drawn], now.rows[added]]
    held = np.concatenate([old[drawn], new[added]])
    in_old, in_new = np.isin(held, old), np.isin(held, new)
    return Union(
        vectors=np.concatenate([reference.vectors[rows[0]], facts.vectors[rows[1]]]),
        perceptual=np.concatenate([reference.perceptual[rows[0]], facts.perceptual[rows[1]]]),
        before=np.arange(len(held)) < len(drawn),
        after=np.isin(held, new[current]),
        rows=np.concatenate(rows),
        came=in_new & ~in_old,
        went=in_old & ~in_new,
        shared=len(old) + len(new) - len(pictures),
    )


def gaussian(vectors: NDArray[np.float32], bandwidth: float) -> NDArray[np.float64]:
    """exp(-d^2 / 2 bandwidth^2) of every pair, and 0 of each vector with itself, which no estimate counts."""
    kernel = np.exp(cdist(vectors, vectors, "sqeuclidean") / (-2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def unbiased_mmd2(
    kernel: NDArray[np.float64], first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The unbiased squared MMD (Gretton et al. 2012, eq. 3) of each column of two sets [vector, column].

    A vector may be in both sets; `kernel` has no diagonal, so that none is held against itself, neither
    within a set nor across. Where all vectors are of one kind the mean is 0 all the same.
    """
    one, other = first.astype(np.float64), second.astype(np.float64)
    m, n, both = one.sum(axis=0), other.sum(axis=0), (first & second).sum(axis=0)
    of_other = kernel @ other
    within = (one * (kernel @ one)).sum(axis=0) / (m * (m - 1)) + (other * of_other).sum(axis=0) / (
        n * (n - 1)
    )
    return np.asarray(within - 2 * (one * of_other).sum(axis=0) / (m * n - both))


def witness(
    kernel: NDArray[np.float64], side: NDArray[np.bool_], other: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The witness function at each vector, without itself: what it has the like of on a `side` [vector].

    Mean kernel with the others of that side minus that with the other one (Gretton et al. 2012, section 2.3);
    of vectors of the side that are not of the other.
    """
    return np.asarray(kernel[:, side].sum(axis=1) / (side.sum() - 1) - kernel[:, other].mean(axis=1))


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


def _orders(vectors: int, times: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """So many orders of the vectors as columns, drawn anew."""
    return chance.permuted(np.tile(np.arange(vectors)[:, None], times), axis=0)


def _same_set(kernel: NDArray[np.float64], chance: np.random.Generator) -> SameSet | None:
    half = len(kernel) // 2
    if half < 2:  # noqa: PLR2004 - one image has no distance within its half
        return None
    first = _orders(2 * half, REPEATS, chance) < half
    null = unbiased_mmd2(kernel[: 2 * half, : 2 * half], first, ~first)
    return SameSet(
        repeats=REPEATS,
        n=half,
        mean=float(null.mean()),
        q95=float(np.quantile(null, 0.95)),
        spread=_histogram(null),
    )


def _classify(union: Union, seed: int) -> ClassifierDrift | None:
    """Told apart is what came from what was there; where hardly anything came, what went from what is left.

    A picture in both versions would have both answers. Those with equal hashes share a fold.
    """
    old, new = union.before, union.after & ~union.before
    if new.sum() < LEAST_CLASSIFIED:
        old, new = union.before & ~union.after, union.after
    hashes = union.perceptual[old], union.perceptual[new]
    folds = min(FOLDS, *(len(np.unique(each)) for each in hashes))
    if min(old.sum(), new.sum()) < LEAST_CLASSIFIED or folds < FOLDS:
        return None
    vectors = np.concatenate([union.vectors[old], union.vectors[new]])
    version = np.repeat([0, 1], [old.sum(), new.sum()])
    _, groups = np.unique(np.concatenate(hashes), return_inverse=True)
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


def _class_mix(
    facts: SetFacts, now: Images, reference: SetFacts, then: Images, notes: Notes
) -> ClassMix | None:
    """Shares of the classes that both jobs have a label for: of others one job alone knows the images."""
    names = sorted({*facts.labels} & {*reference.labels})
    if len(names) < 2 and len(now.labelled) and len(then.labelled):  # noqa: PLR2004 - one alone has all
        notes.say(
            "class-mix-none",
            "Shares of classes are not compared: the jobs have fewer than two labels in common.",
        )
        return None
    counts = np.array([_by_name(reference, then, names), _by_name(facts, now, names)])
    if not counts.sum(axis=1).all():
        return None
    shares = counts / counts.sum(axis=1, keepdims=True)
    variation = float(np.abs(shares[0] - shares[1]).sum() / 2)
    p = _mix_p(facts, now, reference, then, names)
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


def _mix_p(facts: SetFacts, now: Images, reference: SetFacts, then: Images, names: Sequence[str]) -> float:
    """That classes do not depend on what came, went or stayed: an image in both versions counts once."""
    came = ~np.isin(facts.contents[now.rows], reference.contents)
    stayed = np.isin(reference.contents[then.rows], facts.contents)
    counts = np.array(
        [
            _by_name(facts, now, names, came),
            _by_name(reference, then, names, stayed),
            _by_name(reference, then, names, ~stayed),
        ]
    )
    held = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    return float(chi2_contingency(held).pvalue) if min(held.shape) > 1 else 1.0


def _by_name(
    facts: SetFacts, images: Images, names: Sequence[str], kept: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Labelled images of each name, of all or of those that are `kept` [image]."""
    among = images.labelled if kept is None else images.labelled[kept[images.labelled]]
    counts = np.bincount(images.true_label[among], minlength=len(facts.labels))
    by_name = dict(zip(facts.labels, counts.tolist(), strict=True))
    return np.array([by_name.get(name, 0) for name in names], dtype=np.int64)
