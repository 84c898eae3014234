"""The report of a job over a set: what a reader finds in it, and what a browser is never asked to do."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.set_report import picks
from analysis.set_report.facts import Supplement
from analysis.set_report.figures import count, decimal, per_cent, points
from analysis.set_report.page import UnsafeAddressError, render_set_report, write_set_report
from analysis.set_report.picks import FAILED_SHOWN, wanted_items
from analysis.sets.schema import Summary
from analysis.wording import EN_DASH
from tests.reports import HOSTILE, Page, text_of
from tests.set_reports import CODES, DEMO_LABELS, make_summary, make_supplement, pictures

SECTIONS = [
    "outcome",
    "accuracy",
    "examples",
    "settling",
    "classes",
    "flips",
    "confusion",
    "label-maps",
    "candidates",
    "duplicates",
    "outliers",
    "map",
    "unshown",
    "caveats",
    "files",
]


def test_the_order_of_the_page_is_that_of_the_design() -> None:
    page = Page(_whole()[1])
    assert [attrs["id"] for tag, attrs in page.tags if tag == "h2"] == SECTIONS


def test_the_same_facts_give_the_same_page() -> None:
    summary = make_summary(images=60)
    pages = {
        render_set_report(summary, pictures, make_supplement(summary, points=40), title="A") for _ in "ab"
    }
    assert len(pages) == 1


def test_nothing_is_fetched_and_nothing_runs() -> None:
    _, html = _whole()
    page = Page(html)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    references = page.attributes("src") + page.attributes("href") + page.attributes("xlink:href")
    assert references
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in references)
    urls = re.findall(r"url\(([^)]*)\)", html)
    assert urls
    assert all(url.strip("'\"").startswith(("data:image/jpeg;", "data:image/png;")) for url in urls)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", re.sub(r"base64,[^\"']*", "", html))


def test_an_anchor_leads_somewhere_and_no_id_is_used_twice() -> None:
    page = Page(_whole()[1])
    ids = Counter(page.attributes("id"))
    assert [each for each, times in ids.items() if times > 1] == []
    named = [each for name in ("aria-labelledby", "headers") for each in page.attributes(name)]
    assert {*named, *(href[1:] for href in page.attributes("href"))} <= set(ids)


def test_what_is_drawn_is_described_and_tables_are_named() -> None:
    page = Page(_whole()[1])
    images = [attrs for tag, attrs in page.tags if tag == "img" or attrs.get("role") == "img"]
    assert len(images) > 20
    assert all(attrs.get("alt") or attrs.get("aria-label") for attrs in images)
    parts = [attrs for tag, attrs in page.tags if tag in {"g", "path", "text", "line"}]
    assert not [attrs for attrs in parts if {"role", "aria-roledescription", "aria-label"} & set(attrs)]
    tables = [tag for tag, _ in page.tags if tag == "table"]
    assert len([tag for tag, _ in page.tags if tag == "caption"]) == len(tables)
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in page.tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    # what scrolls can be reached with the keyboard
    assert all(attrs.get("tabindex") == "0" for _, attrs in page.tags if attrs.get("role") == "region")


def test_elements_are_closed_in_the_order_in_which_they_were_opened() -> None:
    summary = make_summary(HOSTILE, images=200)
    html = render_set_report(summary, pictures, make_supplement(summary))
    void = {"meta", "img", "br"}
    opened: list[str] = []
    for slash, tag, closed in re.findall(r"<(/?)([a-z][a-z0-9]*)(?:\s[^<>]*?)?(/?)>", html, re.IGNORECASE):
        if slash:
            assert opened.pop() == tag
        elif tag not in void and not closed:
            opened.append(tag)
    assert opened == []


def test_names_and_labels_are_text_whatever_they_hold() -> None:
    summary = make_summary(HOSTILE, images=400, failed={"<b>code</b>": 1})
    supplement = make_supplement(summary)
    html = render_set_report(summary, pictures, supplement, title="<script>title</script>")
    page = Page(html)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "iframe", "object", "embed", "form", "link", "base"}
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    # a browser ends a style element at the first closing tag, whatever stands around it
    assert html.count("</style") == 1
    text = "".join(page.texts)
    assert all(name in text for name in HOSTILE)
    assert "<script>title</script>" in text
    assert "<b>code</b>" in text


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    summary = make_summary(images=20, failed={})
    write_set_report(target, summary, lambda _: None, title="caf\udce9")
    assert "caf" in target.read_text(encoding="utf-8")


def test_each_failure_is_named_with_its_reason() -> None:
    summary, html = _whole()
    page = Page(html)
    rows = [row for row in page.rows if len(row) == 4 and row[0].startswith("broken-")]
    assert len(rows) == sum(CODES.values()) == summary.counts.failed
    assert Counter(row[2] for row in rows) == CODES
    assert all(row[3].startswith("Reason ") for row in rows)
    assert "Every failed item" in text_of(page)


def test_many_failures_are_bounded_counted_and_none_of_their_kinds_is_crowded_out() -> None:
    summary = make_summary(images=40, failed={"common": 900, "rare": 3})
    page = _page(summary)
    rows = [row for row in page.rows if row and row[0].startswith("broken-")]
    assert len(rows) == FAILED_SHOWN
    assert Counter(row[2] for row in rows) == {"common": 97, "rare": 3}
    text = text_of(page)
    assert "100 of the 903 failed items; 803 more are in errors.jsonl" in text
    assert ["common", "900", " " + per_cent(900 / 903)] in page.rows
    assert {"#error-1", "#error-2"} <= set(page.attributes("href"))


def test_the_pictures_asked_for_are_those_that_are_wanted_each_once() -> None:
    summary = make_summary()
    asked: list[int] = []

    def look(index: int) -> bytes | None:
        asked.append(index)
        return pictures(index)

    render_set_report(summary, look, make_supplement(summary, examples=()))
    assert len(asked) == len(set(asked))
    wanted = wanted_items(summary)
    assert set(asked) <= set(wanted)
    assert len(wanted) == len(set(wanted)) <= 176


def test_a_mapping_of_pictures_will_do_and_a_missing_or_torn_one_is_said() -> None:
    summary = make_summary(images=60)
    torn = dict.fromkeys(wanted_items(summary)[:5], b"torn")
    html = render_set_report(summary, torn.get)
    assert "no picture" in html
    assert "data:image/jpeg" not in html


def test_lists_are_bounded_whatever_the_set_holds() -> None:
    labels = [f"class number {label}" for label in range(1000)]
    summary = make_summary(labels, layers=28, images=10_000, failed={"broken": 5000})
    supplement = make_supplement(summary, points=5000)
    html = render_set_report(summary, pictures, supplement)
    page = Page(html)
    assert len(html) < 8_000_000
    assert html.count("data:image/jpeg") <= 200
    assert max(Counter(tag for tag, _ in page.tags if tag in {"tr", "li"}).values()) < 1000
    classes = [attrs["id"] for _, attrs in page.tags if (attrs.get("id") or "").startswith("class-")]
    assert len(classes) == picks.CLASSES_SHOWN
    assert "80 of 1,000 classes" in text_of(page)
    assert "4,900 more are in errors.jsonl" in text_of(page)


def test_an_item_leads_to_its_address_where_one_is_given() -> None:
    summary = make_summary(images=60)
    given = make_supplement(
        summary,
        item_url=lambda index: f"https://lens.example/v1/jobs/job_x/items/{index}",
        file_url=lambda name: name,
    )
    page = Page(render_set_report(summary, pictures, given))
    late = summary.settle.late[0]
    assert f"https://lens.example/v1/jobs/job_x/items/{late.index}" in page.attributes("href")
    assert "items.parquet" in page.attributes("href")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", " JavaScript:alert(1)"])
def test_an_address_that_would_run_is_refused(url: str) -> None:
    summary = make_summary(images=60)
    with pytest.raises(UnsafeAddressError):
        render_set_report(summary, pictures, Supplement(item_url=lambda _: url))


def test_the_tables_hold_the_numbers_of_the_summary() -> None:
    summary, html = _whole()
    page = Page(html)
    rows = {tuple(cell.strip() for cell in row) for row in page.rows}
    for layer in summary.layers:
        (found,) = [row for row in rows if len(row) == 14 and row[0] == str(layer.layer)]
        paired = layer.minus_final
        assert found == (
            str(layer.layer),
            per_cent(layer.top1),
            f"{per_cent(layer.ci_low)} to {per_cent(layer.ci_high)}",
            count(layer.n),
            per_cent(layer.top5),
            per_cent(layer.balanced),
            per_cent(layer.control),
            decimal(layer.macro_auroc, 3),
            points(paired.difference) if paired else EN_DASH,
            f"{points(paired.ci_low)} to {points(paired.ci_high)}" if paired else EN_DASH,
            per_cent(layer.best_share),
            f"{per_cent(layer.worst_case)} to {per_cent(layer.best_case)}",
            per_cent(layer.most_predicted_share),
            layer.most_predicted,
        )
        flips = layer.flips
        told = (flips.wrong_right, flips.right_wrong, flips.wrong_wrong) if flips else None
        margins = (decimal(layer.mean_top_margin, 3), decimal(layer.mean_true_margin, 3))
        assert (str(layer.layer), *(map(count, told) if told else EN_DASH * 3), *margins) in rows
    for place, layer in enumerate(summary.layers):
        cells = [
            cell
            for curve in summary.settle.curves
            for cell in (count(curve.counts[place]), per_cent(curve.cumulative[place]))
        ]
        assert (str(layer.layer), decimal(layer.depth), *cells) in rows


def test_classes_and_confusions_hold_the_numbers_of_the_summary() -> None:
    summary, html = _whole()
    rows = [[cell.strip() for cell in row] for row in Page(html).rows]
    for each in summary.classes:
        recall = [f"{100 * share:.0f}" for share in each.recall_by_layer]
        (found,) = [row for row in rows if len(row) == 13 and row[0] == each.label]
        assert found[1:9] == [count(each.n), *recall]
        assert found[10] == per_cent(each.precision)
    matrix = {row[0]: row[1:] for row in rows if len(row) == 30}
    for label, cells in zip(summary.labels, summary.confusion.matrix, strict=True):
        assert matrix[label] == [count(number) if number else "" for number in cells]
    for pair in summary.confusion.pairs:
        assert [pair.true_label, pair.top, count(pair.count), per_cent(pair.share)] in [
            row[:4] for row in rows
        ]


def test_maps_of_labels_are_named_by_their_strongest_patch() -> None:
    page = Page(_whole()[1])
    second = f"{DEMO_LABELS[1]}: strongest in row 2, column 5 of 10 by 10"
    assert second in page.attributes("aria-label")


def test_every_item_of_every_list_is_named() -> None:
    summary, html = _whole()
    page = Page(html)
    cells = {cell.strip() for row in page.rows for cell in row}
    told = [*summary.settle.late, *summary.label_candidates.items, *summary.outliers.items]
    assert {item.custom_id for item in told} <= cells
    assert f"All {count(summary.label_candidates.found)} candidates" in text_of(page)


@cache
def _whole() -> tuple[Summary, str]:
    """A set of 1,000 images with all that a page can show, drawn once: tests only read it."""
    summary = make_summary()
    return summary, render_set_report(summary, pictures, make_supplement(summary))


def _page(summary: Summary) -> Page:
    return Page(render_set_report(summary, pictures, make_supplement(summary)))
