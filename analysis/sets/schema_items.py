"""The parts of summary.json that point at items: duplicates, outliers, candidates for label errors."""

from pydantic import Field

from analysis.sets.schema_part import Count, Part, Share


class Named(Part):
    """An item of the version."""

    index: Count = Field(description="Its index in the version.")
    custom_id: str | None = Field(description="What the client calls it; null when it was given no name.")


class DuplicateGroup(Part):
    """Items that show the same picture, or nearly so."""

    size: int = Field(ge=2, description="Items in the group.")
    items: list[Named] = Field(description="The first of them by index; at most 12.")
    exact: bool = Field(description="Whether all of them hold the same bytes.")
    true_labels: list[str] = Field(description="Their true labels, each once; more than one contradict.")
    min_cosine: float | None = Field(
        description="Least cosine of a pair that joined the group; null when all hold the same bytes."
    )


class Duplicates(Part):
    """Items with the same bytes, and images that look alike.

    Two images are near-duplicates when the cosine of their final embeddings is at least `cosine_threshold`
    and their perceptual hashes differ in at most `hash_bits` of 64 bits. Groups are what such pairs connect.
    """

    exact_groups: Count = Field(description="Groups of items with the same bytes.")
    exact_extra: Count = Field(
        description="Items beyond the first of each such group: computed once, told twice."
    )
    near_groups: Count = Field(description="Groups that hold at least two different images.")
    near_images: Count = Field(description="Images (different bytes) in them.")
    contradicting_groups: Count = Field(description="Groups of either kind with more than one true label.")
    cosine_threshold: float | None = Field(
        description="See above; null when fewer than two images were compared."
    )
    threshold_method: str = Field(description="How the threshold was found, in a sentence.")
    hash_bits: Count = Field(description="See above.")
    compared: Count = Field(description="Images that were compared.")
    neighbours: Count = Field(description="Images of similar hash that each was compared with, at most.")
    groups: list[DuplicateGroup] = Field(
        description="The groups, contradicting ones first, then by size, then by first index; at most 100."
    )


class Outlier(Named):
    """An item whose final embedding lies apart."""

    score: float = Field(
        ge=0, description="Local outlier factor; about 1 among neighbours of its own density."
    )
    true_label: str | None = Field(description="Null when not known.")
    top: str = Field(description="Its top label at the final layer.")


class Outliers(Part):
    """Images that lie apart: local outlier factor (Breunig et al. 2000) of the final embeddings."""

    n: Count = Field(description="Images that have a score.")
    reference_n: Count = Field(
        description="Images among which neighbours were sought: all, or a seeded sample of them."
    )
    neighbours: Count = Field(description="Neighbours that make up a density; 0 with too few images.")
    median: float | None = Field(description="Median score; null without scores.")
    p99: float | None = Field(description="Score that 99 % of images do not exceed; null without scores.")
    items: list[Outlier] = Field(description="The highest scores, highest first; at most 50.")


class LabelCandidate(Named):
    """An item whose true label may be wrong."""

    true_label: str
    suggested: str = Field(description="The label that the probe finds most probable.")
    true_probability: Share = Field(description="The probe's probability of the true label.")
    suggested_probability: Share = Field(description="The probe's probability of the suggested one.")
    top: str = Field(description="Its top label at the final layer of the lens, for comparison.")


class LabelCandidates(Part):
    """Items whose true label may be wrong: candidates for a look, no verdicts.

    Confident learning (Northcutt et al. 2021, as in cleanlab) on the probabilities of a logistic probe of the
    final embeddings that did not see the item's fold; near-duplicates share a fold.
    """

    n: Count = Field(
        description="Labelled images that were judged: all, or a seeded sample; 0 when none could be."
    )
    folds: Count = Field(description="Folds of the cross-validation; 0 when none could be judged.")
    probe_top1: Share | None = Field(
        description="Share of true labels that the probe puts on top in unseen folds."
    )
    found: Count = Field(description="Candidates found.")
    items: list[LabelCandidate] = Field(description="The least believable first; at most 100.")
