"""Two jobs over the same version: which one is right more often, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.sets.accuracy import depth
from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Draw, Images, generator, pick_images, told_images
from analysis.sets.notes import Notes
from analysis.sets.resampling import RESAMPLES, percentiles, resample_means
from analysis.sets.schema_pairs import Comparison, PairedLayer
from analysis.sets.scores import Scores, read_scores
from analysis.sets.summary import Study
from jobs.errors import IncomparableError

EXACT_BELOW: Final = 25
"""Discordant images below which McNemar's test is the exact one."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The labelled images that both jobs judge, with one truth.

    - `mine`, `theirs` [image]: the row of each in the facts of either job.
    - `truth` [image]: the place of its true label among those of this job.
    - `places` [layer]: the other job's layer of the same depth, for each layer of this one.
    - `right`, `other_right` [image, layer]: whether the top label is true, at this job's layers.
    - `groups` [image]: equal for near-duplicates.
    - `scores` are those of all rows of the other job, `left_out` how many labelled images are none of these.
    """

    mine: NDArray[np.int64]
    theirs: NDArray[np.int64]
    truth: NDArray[np.int32]
    places: list[int]
    right: NDArray[np.bool_]
    other_right: NDArray[np.bool_]
    groups: NDArray[np.int64]
    scores: Scores
    left_out: int


def compare(
    facts: SetFacts,
    studied: Study,
    other: SetFacts,
    notes: Notes,
    same_truth: Mapping[str, str] | None = None,
) -> Comparison:
    """`facts` beside `other`, at layers of the same depth, see `pair` and `compare_pairs`.

    Raises:
        IncomparableError: the versions differ, or the names do and nothing says which mean the same.
    """
    return compare_pairs(facts, other, pair(facts, studied, other, notes, same_truth))


def pair(
    facts: SetFacts,
    studied: Study,
    other: SetFacts,
    notes: Notes,
    same_truth: Mapping[str, str] | None = None,
) -> Pairs:
    """The images that both jobs judge, and who is right about each.

    `same_truth` names for each label of `other` the label of `facts` that means the same; not needed where
    both jobs have the same names. A version calls a truth by one name, so it is enough that one of the jobs
    knows it. Images are left out whose truths differ, which only one job has, or whose truth is none that
    `other` has a label for; and all of a version where several labels may be true of one.

    Raises:
        IncomparableError: the versions differ, or the names do and nothing says which mean the same.
    """
    translation = _translation(facts, other, same_truth)
    scores, seen = read_scores(other, pick_images(other), notes)
    mine, theirs, truth, left_out = _match(facts, studied.images, other, seen, translation)
    if facts.truths is not None and left_out:
        notes.say(
            "comparison-multi-label",
            f"Several labels may be true of an image: who is right about {left_out:,} labelled ones is not "
            "judged.",
        )
    elif left_out:
        notes.say("comparison-left-out", f"{left_out:,} labelled images cannot be judged alike by both jobs.")
    places = match_layers(facts.layers, other.layers)
    return Pairs(
        mine=mine,
        theirs=theirs,
        truth=truth,
        places=places,
        right=studied.scores.top[mine] == truth[:, None],
        other_right=translation[scores.top[theirs][:, places]] == truth[:, None],
        groups=studied.grouping.image_group[studied.images.of_row[mine]],
        scores=scores,
        left_out=left_out,
    )


def compare_pairs(facts: SetFacts, other: SetFacts, pairs: Pairs) -> Comparison:
    """Both jobs at each layer: accuracy on the same images, its difference, and McNemar's test."""
    tested, n = len(np.unique(pairs.groups)), len(pairs.mine)
    return Comparison(
        other_job_id=other.origin.job_id,
        other_model=dict(other.origin.model),
        n=n,
        tested=tested,
        left_out=pairs.left_out,
        method="paired-bootstrap" if tested == n else "paired-cluster-bootstrap",
        resamples=RESAMPLES,
        layers=_compare_layers(facts, other, pairs) if n else [],
    )


def match_layers(layers: tuple[int, ...], others: tuple[int, ...]) -> list[int]:
    """For each of `layers` the place of the one of `others` whose depth is nearest; of two the earlier."""
    # l/L = m/M where l M = m L: whole numbers tie where they should
    deep, others_deep = max(1, layers[-1]), max(1, others[-1])
    return [int(np.abs(np.array(others) * deep - layer * others_deep).argmin()) for layer in layers]


def _translation(facts: SetFacts, other: SetFacts, same_truth: Mapping[str, str] | None) -> NDArray[np.int32]:
    """For each label of `other` its place among those of `facts`, or UNLABELLED."""
    if facts.origin.version_id != other.origin.version_id:
        raise IncomparableError(
            "Compare jobs over the same version of a set; versions are compared by drift."
        )
    if same_truth is None:
        if set(facts.labels) != set(other.labels):
            raise IncomparableError("The jobs have different labels: say which of them mean the same.")
        same_truth = {label: label for label in other.labels}
    places = {label: place for place, label in enumerate(facts.labels)}
    unknown = [label for label in same_truth.values() if label not in places]
    if unknown:
        raise IncomparableError(f"{unknown[0]!r} is none of the job's labels.")
    return np.array(
        [places[same_truth[label]] if label in same_truth else UNLABELLED for label in other.labels],
        dtype=np.int32,
    )


def _match(
    facts: SetFacts, images: Images, other: SetFacts, seen: Images, translation: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], int]:
    """Rows of the same labelled images in both, their truths, and how many labelled images are left out."""
    judged = np.flatnonzero(seen.of_row >= 0)
    _, mine, theirs = np.intersect1d(
        facts.index[images.rows], other.index[judged], assume_unique=True, return_indices=True
    )
    mine, theirs = images.rows[mine], judged[theirs]
    true, others = facts.true_label[mine], other.true_label[theirs]
    translated = np.where(others == UNLABELLED, UNLABELLED, translation[np.maximum(others, 0)])
    truth = np.where(true == UNLABELLED, translated, true)
    differ = (true != UNLABELLED) & (translated != UNLABELLED) & (true != translated)
    # what the other has no label for it cannot have right
    alike = (truth != UNLABELLED) & ~differ & np.isin(truth, translation)
    # where several labels may be true of an image, none is judged, and all are left out
    labelled = int((facts.known[mine] | other.known[theirs]).sum())
    missing = len(told_images(facts, images)) - int(facts.known[mine].sum())
    return mine[alike], theirs[alike], truth[alike].astype(np.int32), labelled + missing - int(alike.sum())


def _compare_layers(facts: SetFacts, other: SetFacts, pairs: Pairs) -> list[PairedLayer]:
    places, right, other_right, groups = pairs.places, pairs.right, pairs.other_right, pairs.groups
    chance = generator(facts.seed, Draw.COMPARISON)
    drawn = resample_means(np.concatenate([right, other_right], axis=1), groups, chance)
    # McNemar's test is of independent images: the first of each group
    _, alone = np.unique(groups, return_index=True)
    only_this = (right & ~other_right)[alone].sum(axis=0).tolist()
    only_other = (~right & other_right)[alone].sum(axis=0).tolist()
    tests = [mcnemar_p(*counts) for counts in zip(only_this, only_other, strict=True)]
    earlier = [p for p, _ in tests[:-1]]
    adjusted = [*multipletests(earlier, method="holm")[1], None] if earlier else [None]
    last = len(facts.layers)
    told = []
    for place, layer in enumerate(facts.layers):
        low, high = percentiles(drawn[:, place] - drawn[:, last + place])
        told.append(
            PairedLayer(
                layer=layer,
                other_layer=other.layers[places[place]],
                depth=depth(facts.layers, place),
                top1=float(right[:, place].mean()),
                other_top1=float(other_right[:, place].mean()),
                difference=float((right[:, place].sum() - other_right[:, place].sum()) / len(right)),
                ci_low=low,
                ci_high=high,
                only_this=only_this[place],
                only_other=only_other[place],
                p=tests[place][0],
                p_holm=adjusted[place],
                test=tests[place][1],
            )
        )
    return told


def mcnemar_p(
    only_this: int, only_other: int
) -> tuple[float, Literal["mcnemar-exact", "mcnemar-chi-squared"]]:
    """McNemar's p of two counts of discordant images, and which test it is of."""
    exact = only_this + only_other < EXACT_BELOW
    table = [[0, only_this], [only_other, 0]]
    # without a discordant image there is nothing to test
    p = float(mcnemar(table, exact=exact, correction=True).pvalue) if only_this + only_other else 1.0
    return min(1.0, p), "mcnemar-exact" if exact else "mcnemar-chi-squared"
