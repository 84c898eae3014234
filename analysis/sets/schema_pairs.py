"""The parts of summary.json that set two things side by side: two jobs, two versions."""

from typing import Any, Literal

from pydantic import Field

from analysis.sets.schema_items import Named
from analysis.sets.schema_part import Count, Difference, Part, Share


class PairedLayer(Part):
    """Two jobs at layers of the same depth, on the same images."""

    layer: int = Field(description="Layer of this job.")
    other_layer: int = Field(description="The other job's layer whose depth l/L is nearest.")
    depth: Share = Field(description="l/L of `layer`.")
    top1: Share = Field(description="Share of images whose top label is true, this job.")
    other_top1: Share = Field(description="The same of the other job.")
    difference: Difference = Field(description="`top1` minus `other_top1`.")
    ci_low: Difference
    ci_high: Difference
    only_this: Count = Field(description="Images of `tested` that this job alone has right.")
    only_other: Count = Field(description="Images of `tested` that the other job alone has right.")
    p: Share = Field(description="McNemar's test on those two counts, as it comes.")
    p_holm: Share | None = Field(
        description="Adjusted after Holm (1979) over all layers but the final one; null at the final layer, "
        "whose test is the one that was planned."
    )
    test: Literal["mcnemar-exact", "mcnemar-chi-squared"] = Field(
        description="Exact below 25 discordant images, else chi-squared with continuity correction."
    )


class Comparison(Part):
    """This job beside another one over the same version. Read the difference and its interval first."""

    other_job_id: str
    other_model: dict[str, Any]
    n: Count = Field(
        description="Labelled images that both jobs have results of and name the same truth for."
    )
    tested: Count = Field(
        description="Images that McNemar's test counts: one of each group of near-duplicates, so that they "
        "are independent."
    )
    left_out: Count = Field(
        description="Labelled images that only one of the jobs has, whose truths differ, or whose truth the"
        " other job has no label for; all of them where several labels may be true of an image."
    )
    method: Literal["paired-bootstrap", "paired-cluster-bootstrap"] = Field(
        description="Of the intervals: images are drawn, or groups of near-duplicates where there are any."
    )
    resamples: Count
    layers: list[PairedLayer] = Field(description="Empty when `n` is 0; the final layers are the last entry.")


class Histogram(Part):
    """How often values fall into bins of equal width."""

    low: float = Field(description="Where the first bin begins: the least value.")
    high: float = Field(description="Where the last one ends: the greatest.")
    counts: list[int]


class SameSet(Part):
    """What the measure says where there is no drift: halves of the reference against each other.

    The halves share no image: beside versions that do, `null_q95` is what `mmd2` is to be held against.
    """

    repeats: Count
    n: Count = Field(description="Images in each half.")
    mean: float = Field(description="Mean squared MMD; about 0.")
    q95: float = Field(description="What 95 % of the repeats do not exceed.")
    spread: Histogram = Field(description="All repeats.")


class ClassifierDrift(Part):
    """How well a logistic classifier tells what came from what was there, in folds that it did not see.

    That is images that only this version holds from those of the reference; where fewer than 10 came, images
    that only the reference holds from those of this version.
    """

    auroc: Share = Field(description="0.5: not at all; 1: always.")
    folds: Count


class ClassShare(Part):
    """How often a true label occurs in each version."""

    label: str
    reference: Share
    current: Share


class ClassMix(Part):
    """Whether the versions hold different shares of classes: drift may then be that alone.

    Of the classes that both jobs have a label for.
    """

    total_variation: Share = Field(description="Half the sum of the differences of shares.")
    p: Share = Field(description="Chi-squared test that they do not depend on what came, went and stayed.")
    changed: bool = Field(description="p < 0.01 and a total variation of at least 0.05.")
    shares: list[ClassShare] = Field(description="The largest changes first; at most 50.")


class Unlike(Named):
    """An image that one version has the like of more than the other."""

    true_label: str | None = Field(description="Null when not known.")
    witness: float = Field(
        description="Witness function of the MMD (Gretton et al. 2012, section 2.3) at the image: its mean"
        " kernel with the other images of its version minus that with those of the other version."
    )


class Drift(Part):
    """How far this version's final embeddings lie from those of a reference version.

    "siglip-mmd" is the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012) with a
    Gaussian kernel on SigLIP embeddings of norm 1. It can be negative, and it is not comparable to CMMD,
    which reads CLIP embeddings at another bandwidth.
    """

    method: Literal["siglip-mmd"] = "siglip-mmd"
    reference_version_id: str
    reference_manifest_sha256: str
    reference_n: Count = Field(
        description="Images of the reference that were measured: all, or a seeded sample."
    )
    n: Count = Field(description="The same of this version.")
    shared: Count = Field(
        0,
        description="Images (different bytes) that both versions hold: where one begins as a copy of the "
        "other most are. The more there are, the nearer the versions lie.",
    )
    bandwidth: float = Field(
        gt=0,
        description="Sigma of the kernel: the median distance within the reference, whatever came after.",
    )
    mmd2: float = Field(description="Of different images: none is held against itself.")
    p: Share = Field(
        description="Share of permutations that reach `mmd2`: which of all images only the reference, only "
        "this version, or both hold is drawn anew. 1 where nothing came and nothing went."
    )
    permutations: Count
    null_q95: float = Field(description="Squared MMD that 95 % of those permutations do not exceed.")
    permuted: Histogram = Field(description="Squared MMD of those permutations.")
    same_set: SameSet | None = Field(description="Null with fewer than 4 images in the reference.")
    classifier: ClassifierDrift | None = Field(description="Null with fewer than 10 images on a side.")
    class_mix: ClassMix | None = Field(description="Null without two true labels that both jobs know.")
    came: list[Unlike] = Field(
        description="Images that only this version holds, whose like its reference has least of, by "
        "`witness`, highest first; at most 24 of those measured."
    )
    went: list[Unlike] = Field(description="The same of the reference: what this version has least of.")
