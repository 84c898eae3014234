"""Parts of the page that have nothing to show: a line each at its end, in the place of a section."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.set_report import reasons
from analysis.set_report.charts import Charts
from analysis.sets.schema import Summary


@dataclass(frozen=True, slots=True)
class Unshown:
    """A part by its anchor and its name, and why it is not there."""

    anchor: str
    title: str
    why: str


def unshown(summary: Summary, charts: Charts) -> list[Unshown]:
    """All such parts in the order of the page."""
    known = any(each.n for each in summary.classes)
    comparison = summary.comparison
    parts = (
        (charts.ranks, Unshown("examples", "Labels by rank", reasons.why_no_ranks(summary))),
        (known, Unshown("classes", "Classes by layer", reasons.why_unlabelled(summary))),
        (summary.confusion.n, Unshown("confusion", "Confusion", reasons.why_unlabelled(summary))),
        (charts.label_maps, Unshown("label-maps", "Where each label is read", reasons.why_no_maps(summary))),
        (
            summary.label_candidates.items,
            Unshown("candidates", "Candidates for label errors", reasons.why_no_candidates(summary)),
        ),
        (summary.duplicates.groups, Unshown("duplicates", "Duplicates", reasons.why_no_groups(summary))),
        (summary.outliers.items, Unshown("outliers", "Outliers", reasons.why_no_outliers(summary))),
        (
            comparison and comparison.layers,
            Unshown("comparison", "Beside another job", reasons.why_no_comparison(summary)),
        ),
        (summary.drift, Unshown("drift", "Drift from another version", reasons.why_no_drift(summary))),
        (charts.points, Unshown("map", "A sample in the plane", reasons.why_no_points(summary))),
    )
    return [part for shown, part in parts if not shown]


def anchors(parts: Sequence[Unshown]) -> set[str]:
    """Which these are."""
    return {part.anchor for part in parts}
