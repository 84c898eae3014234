"""The summary of a job over a version of an image set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.sets.accuracy import Held, summarize_baselines, summarize_layers
from analysis.sets.candidates import find_candidates
from analysis.sets.cautions import warn
from analysis.sets.classes import summarize_classes, summarize_confusion
from analysis.sets.control import controls
from analysis.sets.duplicates import Grouping, group_duplicates, tell_duplicates
from analysis.sets.facts import SetFacts
from analysis.sets.images import Images, pick_images, told_images
from analysis.sets.label_maps import MeanMaps, mean_maps, tell_maps
from analysis.sets.notes import Notes
from analysis.sets.outliers import score_outliers, tell_outliers
from analysis.sets.rankings import Ranked, rank_labels
from analysis.sets.schema import Counts, Export, Summary, Warned
from analysis.sets.schema_pairs import Comparison, Drift
from analysis.sets.scores import Scores, read_scores
from analysis.sets.settling import summarize_settling


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What is found about the images first: the summary and the columns of items share it."""

    images: Images
    scores: Scores
    grouping: Grouping
    outliers: NDArray[np.float32]
    reference_n: int
    maps: MeanMaps | None
    notes: Notes


def study(facts: SetFacts) -> Study:
    """Read the scores once, group the images, and look for outliers."""
    notes = Notes()
    scores, images = read_scores(facts, pick_images(facts), notes)
    grouping = group_duplicates(facts, images, notes)
    outliers, reference = score_outliers(facts, images, grouping.image_group, notes)
    maps = mean_maps(facts, images, notes)
    return Study(images, scores, grouping, outliers, reference, maps, notes)


def summarize(
    facts: SetFacts,
    studied: Study | None = None,
    *,
    comparison: Comparison | None = None,
    drift: Drift | None = None,
    exports: Sequence[Export] = (),
    warnings: Sequence[Warned] = (),
) -> Summary:
    """Everything that summary.json says; `studied` spares a second look where there was one.

    Comparison and drift come from their own modules; `warnings` are told after those of the set.
    """
    studied = studied or study(facts)
    images, scores, grouping = studied.images, studied.scores, studied.grouping
    notes = Notes()
    for said in studied.notes.said:
        notes.say(said.code, said.message)
    groups = grouping.image_group
    ranked = rank_labels(facts, images)
    layers = summarize_layers(facts, images, scores, grouping, _held(facts, images, groups, ranked, notes))
    counts = _count(facts)
    warn(facts, counts, layers, images, notes)
    summary = Summary(
        job_id=facts.origin.job_id,
        version_id=facts.origin.version_id,
        manifest_sha256=facts.origin.manifest_sha256,
        model=dict(facts.origin.model),
        labels=list(facts.labels),
        counts=counts,
        layers=layers,
        baselines=summarize_baselines(facts, images),
        classes=summarize_classes(facts, images, scores, groups, notes),
        confusion=summarize_confusion(facts, images, scores, notes),
        settle=summarize_settling(facts, images, scores),
        duplicates=tell_duplicates(facts, images, grouping, notes),
        outliers=tell_outliers(facts, images, scores, studied.outliers, studied.reference_n),
        label_candidates=find_candidates(facts, images, scores, groups, notes),
        multi_label=ranked.labels,
        label_maps=tell_maps(facts, studied.maps),
        comparison=comparison,
        drift=drift,
        warnings=[],
        seed=facts.seed,
        exports=list(exports),
    )
    return summary.model_copy(update={"warnings": [*notes.said, *warnings]})


def _held(
    facts: SetFacts, images: Images, groups: NDArray[np.int64], ranked: Ranked, notes: Notes
) -> list[Held]:
    control, control_n = controls(facts, images, groups, notes)
    told = len(told_images(facts, images))
    if told:
        if None in control and len(images.labelled):
            notes.say(
                "control-none",
                "The control needs sampled embeddings that differ, of two labels in two groups each at "
                "least.",
            )
        if None in ranked.auroc:
            notes.say("auroc-none", "AUROC needs images of two labels at least.")
        if ranked.n < told:
            notes.say("auroc-sampled", f"AUROC is of {ranked.n:,} sampled images.")
    return [
        Held(held, control_n, area, ranked.n if area is not None else 0, precision)
        for held, area, precision in zip(control, ranked.auroc, ranked.precision, strict=True)
    ]


def _count(facts: SetFacts) -> Counts:
    errors = Counter(item.code for item in facts.failed)
    return Counts(
        total=len(facts.index) + len(facts.failed) + len(facts.dropped),
        unique=len(np.unique(facts.contents)),
        succeeded=len(facts.index),
        failed=len(facts.failed),
        dropped=len(facts.dropped),
        retried=facts.retried,
        by_error=dict(sorted(errors.items(), key=lambda error: (-error[1], error[0]))),
        labelled=int(facts.known.sum())
        + sum(item.is_labelled for item in facts.failed)
        + int(facts.dropped.known.sum()),
    )
