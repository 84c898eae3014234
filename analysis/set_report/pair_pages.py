"""The pages of a comparison and of a drift: one HTML page each that needs nothing but itself."""

from collections.abc import Iterable
from typing import Final

from analysis.set_report.environment import environment, flat
from analysis.set_report.facts import Pictures
from analysis.set_report.pair_charts import draw_pairs
from analysis.set_report.stamps import stamps
from analysis.sets.schema_documents import ComparisonDocument, DriftDocument

CARDS: Final = 24
"""Of each list so many are shown with their pictures."""


def compared_items(document: ComparisonDocument) -> list[int]:
    """Indexes of the items whose pictures the page of a comparison asks for: at most 48."""
    lists = (document.only_this.items, document.only_other.items)
    return [item.index for items in lists for item in items[:CARDS]]


def render_comparison(document: ComparisonDocument, pictures: Pictures, *, title: str) -> str:
    """The page of a comparison as HTML: no script, nothing fetched, light and dark."""
    names = [str(side.model.get("id", "a model")) for side in (document.job, document.other)]
    return (
        environment()
        .get_template("comparison_report.html")
        .render(
            kind="Comparison",
            title=title,
            document=document,
            names=names,
            one_model=names[0] == names[1],
            cards=CARDS,
            pairs=draw_pairs(document.comparison, None),
            stamps=stamps(compared_items(document), pictures),
            flat=[flat(document.job.model), flat(document.other.model)],
            file_href=_beside,
        )
    )


def drifted_items(document: DriftDocument) -> tuple[list[int], list[int]]:
    """Indexes of the items whose pictures the page of a drift asks for, of each version."""
    if document.drift is None:
        return [], []
    return [item.index for item in document.drift.came], [item.index for item in document.drift.went]


def render_drift(
    document: DriftDocument, pictures: Pictures, reference: Pictures, *, title: str, reference_title: str
) -> str:
    """The page of a drift as HTML, as that of a comparison; `reference` has the pictures of that version."""
    came, went = drifted_items(document)
    return (
        environment()
        .get_template("drift_report.html")
        .render(
            kind="Drift",
            title=title,
            reference_title=reference_title,
            document=document,
            pairs=draw_pairs(None, document.drift),
            stamps=_named("c", came, pictures) | _named("r", went, reference),
            flat=[flat(document.job.model), flat(document.reference.model)],
            file_href=_beside,
        )
    )


def _named(version: str, indexes: Iterable[int], pictures: Pictures) -> dict[str, str]:
    """Stamps by the letter of their version and their index: an index names an item in each of them."""
    return {f"{version}{index}": url for index, url in stamps(indexes, pictures).items()}


def _beside(_: str) -> None:
    """Nothing: the files that are named lie beside the summaries of the jobs."""
