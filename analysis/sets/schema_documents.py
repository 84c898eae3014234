"""comparison.json and drift.json: what is said of two jobs, with where it comes from.

What is said once for all of summary.json in `analysis.sets.schema` holds here too.
"""

from typing import Any, Literal

from pydantic import Field

from analysis.sets.facts import SetFacts
from analysis.sets.schema import SCHEMA_VERSION, Warned
from analysis.sets.schema_items import Named
from analysis.sets.schema_pairs import Comparison, Drift
from analysis.sets.schema_part import Count, Part


class Side(Part):
    """One of the two jobs, and what it is over."""

    job_id: str
    version_id: str
    manifest_sha256: str = Field(description="Of the sealed version.")
    model: dict[str, Any] = Field(description="As in summary.json.")
    labels: list[str] = Field(description="Names in the order of scores.")
    succeeded: Count = Field(description="Items that have results.")
    failed: Count
    dropped: Count = Field(0, description="Items that were never computed.")


class Discordant(Named):
    """An image that one job has right and the other wrong at the final layers."""

    true_label: str = Field(description="As this job calls it.")
    top: str = Field(description="This job's top label.")
    other_top: str = Field(description="The other job's, in its own words.")


class DiscordantImages(Part):
    """Images that one of the jobs alone has right."""

    count: Count = Field(
        description="Among the `n` of the comparison; near-duplicates count each, as they do not in McNemar's"
        " test."
    )
    items: list[Discordant] = Field(
        description="Those first on which the wrong top label leads by most over its second; at most 48."
    )


class ComparisonDocument(Part):
    """comparison.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job: Side = Field(description="The one that `this` means everywhere.")
    other: Side
    same_truth: dict[str, str] | None = Field(
        description="For labels of the other job those of this one that mean the same; null where both have"
        " the same names."
    )
    comparison: Comparison
    only_this: DiscordantImages
    only_other: DiscordantImages
    warnings: list[Warned]
    seed: int


class DriftDocument(Part):
    """drift.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job: Side = Field(description="Over the version that may have drifted.")
    reference: Side = Field(description="Over the version that it is measured from.")
    drift: Drift | None = Field(description="Null with fewer than two images in a version, see `warnings`.")
    warnings: list[Warned]
    seed: int


def side_of(facts: SetFacts) -> Side:
    """How the facts of a job are told."""
    origin = facts.origin
    return Side(
        job_id=origin.job_id,
        version_id=origin.version_id,
        manifest_sha256=origin.manifest_sha256,
        model=dict(origin.model),
        labels=list(facts.labels),
        succeeded=len(facts.index),
        failed=len(facts.failed),
        dropped=len(facts.dropped),
    )
