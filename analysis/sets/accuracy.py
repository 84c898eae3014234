"""How often each layer has the true label on top, and what that number is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.sets.duplicates import Grouping
from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Draw, Images, generator
from analysis.sets.resampling import percentiles, resample_means, wilson
from analysis.sets.schema import Baselines, Flips, LayerSummary, Paired
from analysis.sets.scores import TOP5_LABELS, Scores

FAILED_SHARE: Final = 0.01
"""Above it, accuracy is also told for the best and the worst that items without a result can have been."""

ROUNDING: Final = 1e-9
"""No two layers of a set differ by less in their share of hits: that of one image is larger."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a layer's own embeddings and its ranking say, each of how many images; None where nothing can."""

    control: float | None
    control_n: int
    macro_auroc: float | None
    auroc_n: int
    macro_ap: float | None


def summarize_layers(
    facts: SetFacts, images: Images, scores: Scores, grouping: Grouping, held: Sequence[Held]
) -> list[LayerSummary]:
    """Every layer of the set; `held` is of each layer."""
    top, true = scores.top[images.rows], images.true_label
    known = images.labelled
    right = top[known] == true[known, None]
    groups = grouping.image_group[known]
    drawn = np.zeros((1, len(facts.layers)))
    if len(known):
        drawn = resample_means(right, groups, generator(facts.seed, Draw.BOOTSTRAP))
    best = _best_shares(drawn)
    independent = len(np.unique(groups)) == len(known)
    told = []
    for place, layer in enumerate(facts.layers):
        hits = int(right[:, place].sum())
        most, share = _most_predicted(top[:, place])
        between = _interval(hits, drawn[:, place], len(known), independent=independent)
        told.append(
            LayerSummary(
                layer=layer,
                depth=depth(facts.layers, place),
                n=len(known),
                top1=hits / len(known) if len(known) else None,
                ci_low=between[0] if between else None,
                ci_high=between[1] if between else None,
                method=("wilson" if independent else "cluster-bootstrap") if between else None,
                top5=(
                    int(scores.in_five[place]) / len(known)
                    if len(known) and len(facts.labels) >= TOP5_LABELS
                    else None
                ),
                balanced=_balanced(right[:, place], true[known]),
                control=held[place].control,
                control_n=held[place].control_n,
                macro_auroc=held[place].macro_auroc,
                auroc_n=held[place].auroc_n,
                macro_ap=held[place].macro_ap,
                most_predicted=facts.labels[most] if most is not None else None,
                most_predicted_share=share,
                mean_top_margin=_ratio(scores.mean_margin[place], scores.spread[place]),
                mean_true_margin=_ratio(scores.mean_true_margin[place], scores.spread[place]),
                flips=_flips(top[known], right, place) if place and len(known) else None,
                minus_final=_minus_final(right, drawn, place) if len(known) else None,
                best_share=float(best[place]) if len(known) else None,
                **bounds(facts, hits, len(known)),
            )
        )
    return told


def summarize_baselines(facts: SetFacts, images: Images) -> Baselines:
    """What drawing blindly and always saying one label reach."""
    known = images.true_label[images.labelled]
    counts = np.bincount(known, minlength=len(facts.labels))
    return Baselines(
        chance=1 / len(facts.labels),
        majority=float(counts.max()) / len(known) if len(known) else None,
        majority_label=facts.labels[int(counts.argmax())] if len(known) else None,
    )


def bounds(facts: SetFacts, hits: int, n: int) -> dict[str, float | None]:
    """`worst_case` and `best_case` of `hits` of `n` images; each item without a result counts as an image."""
    missing = len(facts.failed) + len(facts.dropped)
    unknown = sum(item.true_label != UNLABELLED for item in facts.failed)
    unknown += int((facts.dropped.true_label != UNLABELLED).sum())
    if missing <= FAILED_SHARE * (missing + len(facts.index)) or not n + unknown:
        return {"worst_case": None, "best_case": None}
    return {"worst_case": hits / (n + unknown), "best_case": (hits + unknown) / (n + unknown)}


def depth(layers: Sequence[int], place: int) -> float:
    """l/L of a layer."""
    return layers[place] / layers[-1] if layers[-1] else 0.0


def _interval(
    hits: int, drawn: NDArray[np.float64], n: int, *, independent: bool
) -> tuple[float, float] | None:
    if not n:
        return None
    return wilson(hits, n) if independent else percentiles(drawn)


def _best_shares(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """In how many resamples each layer is the best; of those where several are, each has its part."""
    # the normal limit of the bootstrap tells equal layers apart by rounding
    best = drawn >= drawn.max(axis=1, keepdims=True) - ROUNDING
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def _most_predicted(top: NDArray[np.int16]) -> tuple[int | None, float | None]:
    """The label most often on top, and its share."""
    if not len(top):
        return None, None
    counts = np.bincount(top)
    return int(counts.argmax()), float(counts.max()) / len(top)


def _balanced(right: NDArray[np.bool_], true: NDArray[np.int32]) -> float | None:
    """The mean of the recalls of the labels that there are."""
    if not len(true):
        return None
    totals = np.bincount(true)
    hits = np.bincount(true, weights=right)
    return float((hits[totals > 0] / totals[totals > 0]).mean())


def _ratio(mean: float, spread: float) -> float | None:
    """The mean in units of the spread."""
    return float(mean / spread) if np.isfinite(mean) and spread > 0 else None


def _flips(top: NDArray[np.int16], right: NDArray[np.bool_], place: int) -> Flips:
    changed = top[:, place] != top[:, place - 1]
    was, now = right[:, place - 1], right[:, place]
    return Flips(
        wrong_right=int((~was & now).sum()),
        right_wrong=int((was & ~now).sum()),
        wrong_wrong=int((changed & ~was & ~now).sum()),
    )


def _minus_final(right: NDArray[np.bool_], drawn: NDArray[np.float64], place: int) -> Paired | None:
    if place == right.shape[1] - 1:
        return None
    low, high = percentiles(drawn[:, place] - drawn[:, -1])
    difference = float(right[:, place].mean() - right[:, -1].mean())
    return Paired(difference=difference, ci_low=low, ci_high=high)
