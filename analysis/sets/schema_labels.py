"""The parts of summary.json that are about labels one by one: where each is read, and how well it is told."""

from pydantic import Field

from analysis.sets.schema_part import Count, Part, Share


class LabelMap(Part):
    """Where a label is read: its mean map over its own images less that over the others."""

    label: str
    n: Count = Field(description="Its images that have maps.")
    n_other: Count = Field(description="Labelled images without it that have maps.")
    highest: float = Field(description="The highest value of the difference, and the patch that has it.")
    row: Count = Field(description="From the top, 0 the first.")
    col: Count = Field(description="From the left, 0 the first.")
    lowest: float = Field(description="The lowest value of the difference.")


class LabelMaps(Part):
    """What patches say of labels at one layer, of a sample of images.

    What patches say of a label in pictures without it, such as that the middle holds things, is taken off.
    The maps themselves are in `label_maps.parquet`.
    """

    layer: int
    method: str = Field(
        description='Of the patch lens: "value", each token through values and output of the head\'s '
        'attention; "head", through all of the head.'
    )
    grid: list[int] = Field(description="Rows and columns of patches.")
    n: Count = Field(description="Labelled images that have maps.")
    labels: list[LabelMap] = Field(
        description="Labels with 5 images or more, and as many without it: the most frequent first."
    )


class RankedLabel(Part):
    """How well a label's score at the final layer tells the images that it is true of from the others."""

    label: str
    n: Count = Field(description="Images that it is true of.")
    auroc: Share | None = Field(
        description="Area under the ROC curve, 0.5 by chance; null when it is true of all or of none."
    )
    average_precision: Share | None = Field(
        description="Mean precision over the images that it is true of, by chance their share; null likewise."
    )


class MultiLabel(Part):
    """What is told where several labels may be true of an image: each label by itself."""

    n: Count = Field(description="Labelled images that these numbers are of: all, or a seeded sample.")
    mean_labels: float | None = Field(description="Of the job's labels so many are true of an image; a mean.")
    labels: list[RankedLabel] = Field(description="By `auroc`, lowest first, then those without one.")
