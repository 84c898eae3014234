"""The parts of summary.json that are about labels one by one: where each is read, and how well it is told."""

from pydantic import Field

from analysis.sets.schema_part import Count, Part


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
