"""summary.json: what a job found over a version of an image set, documented and versioned.

Said once for all of it:

- A share lies in 0..1; an interval (`ci_low`, `ci_high`) covers 95 %.
- An image is counted once however many items hold its bytes: the first of them that is labelled, or else the
  first, stands for all. Only `counts` counts items. Images with a score that is not a number are left out,
  see `warnings`.
- A number that cannot be told from the set is null, and `warnings` says why.
- An item is named by its `index` in the version, a layer by its number, a label by its name.
- "Labelled" is an image whose true label is one of the job's labels. The top label is the one with the
  highest score; of labels that tie the one named first.
- Where items of a version have several true labels, each label is told by itself, in `multi_label`, and what
  takes a single true one is not: accuracy, classes, confusion and candidates are empty or null.
- `seed` decides every random draw; the same facts give the same summary.

`schema_version` rises by one when a field is renamed, removed or means something else; a new field keeps it.
"""

from typing import Any, Final, Literal

from pydantic import Field

from analysis.sets.schema_items import Duplicates, LabelCandidates, Named, Outliers
from analysis.sets.schema_labels import LabelMaps, MultiLabel
from analysis.sets.schema_pairs import Comparison, Drift
from analysis.sets.schema_part import Count, Difference, Part, Share

SCHEMA_VERSION: Final = 1


class Counts(Part):
    """Items of the version; of a retry those that it had to compute."""

    total: Count = Field(description="All of them: `succeeded`, `failed` and `dropped`.")
    unique: Count = Field(description="Images with different bytes among those that succeeded.")
    succeeded: Count
    failed: Count
    dropped: Count = Field(
        0, description="Never computed: the job was cancelled, failed, or ran out of time before them."
    )
    retried: Count = Field(
        0,
        description="Of `succeeded`, items that had failed before: a retry of the job has their results.",
    )
    by_error: dict[str, int] = Field(description="Failed items by error code, the most frequent first.")
    labelled: Count = Field(description="Items whose true label is one of the job's, with a result or not.")


class Flips(Part):
    """Labelled images whose top label is another one than at the layer before, by whether it was true."""

    wrong_right: Count
    right_wrong: Count
    wrong_wrong: Count


class Paired(Part):
    """Accuracy of one layer minus that of another, on the same images (paired bootstrap)."""

    difference: Difference
    ci_low: Difference
    ci_high: Difference


class LayerSummary(Part):
    """What a layer says of the whole set. Null where no image is labelled, unless said otherwise."""

    layer: int
    depth: Share = Field(description="l/L: the layer's number over that of the last layer; 0 if that is 0.")
    n: Count = Field(
        description="Labelled images: what `top1`, `balanced`, `mean_true_margin` and `flips` are of."
    )
    top1: Share | None = Field(description="Share of images whose top label is the true one.")
    ci_low: Share | None
    ci_high: Share | None
    method: Literal["wilson", "cluster-bootstrap"] | None = Field(
        description="Of the interval: Wilson's where all images are independent; where there are "
        "near-duplicates their groups are drawn with replacement, and the interval is that of percentiles."
    )
    top5: Share | None = Field(
        description="Share of images whose true label is among the five best; null below 10 labels."
    )
    balanced: Share | None = Field(
        description="Mean over true labels of their share right: each counts alike."
    )
    control: Share | None = Field(
        description="What the layer holds: share right by the nearest class centroid of the layer's own "
        "embeddings, in folds that did not see the image, near-duplicates in one fold. Null when fewer than "
        "two classes have images in two folds."
    )
    control_n: Count = Field(
        description="Labelled images of the seeded sample that `control` is of: those whose true label has "
        "images in the other folds."
    )
    macro_auroc: Share | None = Field(
        description="Mean over labels of the area under the ROC curve of the label's score, the label's "
        "images against the others. Null when no label has both."
    )
    auroc_n: Count = Field(description="Labelled images that `macro_auroc` is of: all, or a seeded sample.")
    macro_ap: Share | None = Field(
        None,
        description="Mean over labels of the average precision of the label's score, of the same images; "
        "null unless several labels may be true.",
    )
    most_predicted: str | None = Field(
        description="The label that most images, labelled or not, have on top; null only without images."
    )
    most_predicted_share: Share | None = Field(description="Share of all images that do.")
    mean_top_margin: float | None = Field(
        description="Over all images: mean of best minus second score, in standard deviations of the "
        "layer's scores across labels (the root of the mean variance within an image), so that layers can "
        "be compared. Null with one label or without any spread."
    )
    mean_true_margin: float | None = Field(
        description="Over labelled images: mean of the true label's score minus the best other one, negative "
        "where it is wrong; the same unit, null likewise."
    )
    flips: Flips | None = Field(description="Null at the first layer as well.")
    minus_final: Paired | None = Field(
        description="`top1` minus that of the final layer; null at that layer too."
    )
    best_share: Share | None = Field(
        description="Share of bootstrap resamples in which this layer has the highest `top1`; over the "
        "layers they sum to 1. Layers that tie share the resample. Near 1: surely the best; spread out: "
        "undecided."
    )
    worst_case: Share | None = Field(
        description="`top1` if all items without a result that have a true label had been wrong; null unless "
        "more than 1 % of all items have none, since they failed or were dropped."
    )
    best_case: Share | None = Field(description="The same had they been right.")


class Baselines(Part):
    """What needs no eyes."""

    chance: Share | None = Field(
        description="One of the number of labels: drawn blindly. Null without labels."
    )
    majority: Share | None = Field(description="Share of the most frequent true label; null without any.")
    majority_label: str | None


class ClassSummary(Part):
    """The images of one true label."""

    label: str
    n: Count
    groups: Count = Field(0, description="Its images, near-duplicates counted once.")
    ranked: bool = Field(description="Whether there are the 20 `groups` that a place in a ranking takes.")
    recall: Share | None = Field(description="Share right at the final layer; null without images.")
    ci_low: Share | None = Field(description="Of `recall`.")
    ci_high: Share | None
    method: Literal["wilson", "cluster-bootstrap", "wilson-of-groups"] | None = Field(
        None,
        description="Of the interval, as of a layer's; where all images are right, or none is, the bootstrap "
        "says nothing, and it is Wilson's of the groups of near-duplicates.",
    )
    precision: Share | None = Field(
        description="Share of labelled images with this label on top that are of it; null when there are "
        "none."
    )
    predicted: Count = Field(description="Labelled images with this label on top at the final layer.")
    recall_by_layer: list[Share] = Field(description="In the order of `layers`; empty without images.")
    settled_by_layer: list[Share] = Field(
        description="Share of its images whose top label is the final one from this layer on, in the order "
        "of `layers`; empty without images."
    )
    median_settle_layer: float | None


class Confused(Part):
    """A true label and another one that was on top of it."""

    true_label: str
    top: str
    count: Count
    share: Share = Field(description="Of the images of the true label.")
    items: list[Named] = Field(description="Those with the widest margin for the wrong label; at most 12.")


class Confusion(Part):
    """True labels against top labels at the final layer."""

    n: Count = Field(description="Labelled images.")
    matrix: list[list[int]] = Field(
        description="Counts [true label, top label], both in the order of `labels`; empty when no image is "
        "labelled, and beyond 500 labels."
    )
    pairs: list[Confused] = Field(
        description="The most frequent confusions, most frequent first; at most 30."
    )


class SettleCurve(Part):
    """How many images are settled from each layer on."""

    of: Literal["all", "right", "wrong"] = Field(
        description="All images; labelled ones whose final top label is true; labelled ones whose is not."
    )
    n: Count
    counts: list[int] = Field(description="Images with this `settle_layer`, in the order of `layers`.")
    cumulative: list[Share] = Field(
        description="Share of `n` settled at this layer or before; empty when n is 0."
    )
    median: float | None = Field(description="Median `settle_layer`; null when n is 0.")


class LateFlip(Named):
    """An item that found its final label late."""

    settle_layer: int
    before: str = Field(description="The top label at the layer before.")
    top: str = Field(description="The top label at the final layer.")
    true_label: str | None = Field(description="Null when not known.")


class Settle(Part):
    """When images settle.

    `settle_layer` is the smallest of the job's layers from which the top label is the final one up to the
    end; `settle_correct_layer` the smallest from which it is the true one, and null where the final one is
    not true: the curve of "right" is that of `settle_correct_layer`.
    """

    depth: list[Share] = Field(
        description="l/L of each of `layers`, to compare models of different depth on."
    )
    curves: list[SettleCurve]
    late: list[LateFlip] = Field(
        description="Items that settled last: by layer, latest first, then by final margin, widest first; "
        "at most 48. Without those that had one top label throughout."
    )


class Warned(Part):
    """What a reader of the numbers should know.

    Codes, which are stable:

    - of the items: `no-images`, `many-failed` (above 1 %), `not-computed` (some were dropped),
      `scores-not-finite`;
    - of the truths: `multi-label`, `no-true-labels`, `unknown-true-labels` (none of the job's),
      `partly-labelled`, `one-class`, `small-classes` (not ranked), `copies-contradict` (items with the
      same bytes have different true labels);
    - of the scores: `one-label`, `scores-constant`, `labels-concentrated` (one label tops most images);
    - of what is missing: `control-none`, `control-left-out` (images alone with their true label),
      `auroc-none`, `outliers-too-few`, `candidates-none`, `candidates-small-classes`, `confusion-too-large`,
      `drift-too-few`, `class-mix-none` (fewer than two labels in common), `label-maps-none`,
      `label-maps-few`;
    - of what was cut short: `auroc-sampled`, `outliers-sampled`, `outliers-equal`, `candidates-sampled`,
      `duplicates-cut`;
    - of the other side: `comparison-left-out`, `comparison-multi-label`, `class-mix-changed`, `drift-none`
      (the same images), `drift-no-spread`.
    """

    code: str = Field(description="One of the above.")
    message: str


class Export(Part):
    """A file that holds the rows behind the summary."""

    name: str
    media_type: str
    rows: Count | None = Field(description="Null where a file has no rows.")
    size_bytes: Count
    sha256: str


class Summary(Part):
    """summary.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: str
    version_id: str
    manifest_sha256: str = Field(description="Of the sealed version.")
    model: dict[str, Any] = Field(
        description="id, revision, weights_sha256, dtype, runtime, layers (how many blocks it has), "
        "grid ([rows, cols] of patches)."
    )
    labels: list[str] = Field(description="Names in the order of scores.")
    counts: Counts
    layers: list[LayerSummary] = Field(description="In the job's order, the final one last.")
    baselines: Baselines
    classes: list[ClassSummary] = Field(
        description="One of each label: those that are `ranked` by `recall`, lowest first, then the "
        "others by images, most first."
    )
    confusion: Confusion
    settle: Settle
    duplicates: Duplicates
    outliers: Outliers
    label_candidates: LabelCandidates
    multi_label: MultiLabel | None = Field(
        None, description="Null unless items of the version have several true labels."
    )
    label_maps: LabelMaps | None = Field(
        None, description="Null where the job kept no maps, or no image has a result."
    )
    comparison: Comparison | None = Field(description="Null unless another job was named.")
    drift: Drift | None = Field(description="Null unless a reference version was named.")
    warnings: list[Warned]
    seed: int
    exports: list[Export]
