"""The report of a job over an image set: one HTML page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from analysis.set_report import apart, picks, reasons
from analysis.set_report.charts import draw_all
from analysis.set_report.environment import environment, flat
from analysis.set_report.facts import LayerMap, Pictures, Supplement
from analysis.set_report.plates import largest
from analysis.set_report.stamps import map_urls, stamps
from analysis.set_report.unshown import anchors, unshown
from analysis.sets.schema import Summary

SCHEMES: Final = frozenset({"", "http", "https"})


class UnsafeAddressError(ValueError):
    """A link was to be made to something else than a page or a file."""


def write_set_report(
    target: Path, summary: Summary, pictures: Pictures, supplement: Supplement | None = None, *, title: str
) -> None:
    """Write the page of a job over a set to `target`; see `render_set_report`."""
    page = render_set_report(summary, pictures, supplement, title=title)
    # what a file system took for a name need not be a text: lone surrogates are written as references
    target.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")


def render_set_report(
    summary: Summary, pictures: Pictures, supplement: Supplement | None = None, *, title: str = "Image set"
) -> str:
    """The page of a job over a set as HTML: no script, nothing fetched, light and dark.

    `pictures` is asked only for `wanted_items(summary)` and the examples of `supplement`, each once. The same
    arguments give the same page.

    Raises:
        UnsafeAddressError: `item_url` or `file_url` gave something else than http, https or a relative path.
    """
    beside = supplement or Supplement()
    picked = picks.pick(summary)
    examples = beside.examples[: picks.EXAMPLES_SHOWN]
    links = _Links(summary, picked, beside)
    seen = stamps([*(each.index for each in examples), *(item.index for _, item in picked.named())], pictures)
    pair_of = {(pair.true_label, pair.top): place for place, pair in enumerate(summary.confusion.pairs, 1)}
    charts = draw_all(summary, beside, examples)
    absent = unshown(summary, charts)
    return (
        environment()
        .get_template("set_report.html")
        .render(
            title=title,
            summary=summary,
            beside=beside,
            picks=picked,
            examples=examples,
            stamps=seen,
            item_maps=_map_urls(picked, beside),
            failed=picks.failed_shown(beside.failed, summary.counts.by_error),
            classes=picks.classes_shown(summary.classes),
            label_rows=picks.LABEL_ROWS,
            names_shown=picks.NAMES_SHOWN,
            outlying=picks.OUTLYING,
            matrix_labels=picks.MATRIX_LABELS,
            tick_step=-(-len(summary.labels) // picks.TICKS_SHOWN),
            pair_of=pair_of,
            taken_for=_taken_for(summary),
            label_place={label: place for place, label in enumerate(summary.labels)},
            label_extent=largest(beside.label_maps),
            gap=apart.widest_gap(summary.layers),
            are_few=apart.are_few,
            charts=charts,
            pairs=charts.pairs,
            why=reasons,
            unshown=absent,
            gone=anchors(absent),
            href=links.href,
            also=links.also,
            file_href=links.file,
            flat=flat(summary.model),
        )
    )


class _Links:
    """Where an item or a file is to be found: at the address given for it, else on this page."""

    def __init__(self, summary: Summary, picked: picks.Picks, beside: Supplement) -> None:
        self._beside = beside
        self._files = {export.name for export in summary.exports}
        self._homes: dict[int, list[tuple[str, str]]] = {}
        for name, item in picked.named():
            self._homes.setdefault(item.index, []).append((name, f"{name}-{item.index}"))

    def href(self, index: int) -> str | None:
        """The item's own address, else its first card, else None."""
        if self._beside.item_url is not None:
            return _safe(self._beside.item_url(index))
        homes = self._homes.get(index)
        return f"#{homes[0][1]}" if homes else None

    def also(self, index: int, here: str) -> Sequence[tuple[str, str]]:
        """The other lists that show the item, with the anchor of its card there."""
        return [home for home in self._homes.get(index, ()) if home[0] != here]

    def file(self, name: str) -> str | None:
        """The file's own address, else its row among the exports, else None."""
        if name not in self._files:
            return None
        return _safe(self._beside.file_url(name)) if self._beside.file_url is not None else "#files"


def _map_urls(picked: picks.Picks, beside: Supplement) -> Mapping[int, Sequence[tuple[LayerMap, str]]]:
    of = beside.maps.of if beside.maps is not None else {}
    return {item.index: map_urls(of.get(item.index, ())) for item in picked.late}


def _safe(url: str) -> str:
    if urlsplit(url.strip()).scheme not in SCHEMES:
        raise UnsafeAddressError(f"Links lead to http, https or a relative path, not to {url[:80]!r}.")
    return url


def _taken_for(summary: Summary) -> Mapping[str, Any]:
    """The most frequent confusion of each true label that has one among the pairs."""
    found: dict[str, Any] = {}
    for pair in summary.confusion.pairs:
        found.setdefault(pair.true_label, pair)
    return found
