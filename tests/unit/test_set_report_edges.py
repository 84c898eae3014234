"""The report of sets that lack something: what is not known is said, and nothing empty is drawn."""

import re
from typing import Any

import numpy as np
import pytest

from analysis.pages import TEMPLATES
from analysis.set_report.apart import widest_gap
from analysis.set_report.page import render_set_report
from analysis.sets.schema import Summary
from analysis.wording import EN_DASH, MINUS
from tests.reports import Page, text_of
from tests.set_reports import make_summary, make_supplement, pictures


def test_a_set_without_true_labels_says_why_accuracy_is_missing() -> None:
    said = [{"code": "no-true-labels", "message": "No image has a true label, as the summary puts it."}]
    summary = make_summary(labelled=False, images=60, warnings=said)
    page = _page(summary)
    text = text_of(page)
    # in the list of warnings, and in those of accuracy, classes, flips, confusion, label maps, candidates
    assert text.count("No image has a true label, as the summary puts it.") == 7
    assert not [attrs for _, attrs in page.tags if (attrs.get("aria-label") or "").startswith("top label")]
    assert "Images by settle layer" in " ".join(page.attributes("aria-label"))
    assert "nan" not in text.lower().split()


def test_a_set_of_several_true_labels_tells_each_by_itself_and_why_nothing_else_is() -> None:
    several = {
        "n": 60,
        "mean_labels": 1.5,
        "labels": [
            {"label": "red circle", "n": 30, "auroc": 0.71, "average_precision": 0.625},
            {"label": "red square", "n": 60, "auroc": None, "average_precision": None},
        ],
    }
    said = [{"code": "multi-label", "message": "Several labels may be true."}]
    summary = make_summary(labelled=False, images=60, warnings=said, multi_label=several)
    told = [layer.model_copy(update={"macro_auroc": 0.7, "macro_ap": 0.6}) for layer in summary.layers]
    page = _page(summary.model_copy(update={"layers": told}))
    headings = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    assert headings[:3] == ["outcome", "multi-label", "accuracy"]
    rows = [[cell.strip() for cell in row] for row in page.rows]
    assert ["red circle", "30", "0.625", "0.710"] in rows
    assert ["red square", "60", EN_DASH, EN_DASH] in rows
    assert text_of(page).count("Several labels may be true.") == 7
    assert "several labels may be true" in text_of(page)


def test_differences_that_few_images_do_not_tell_apart_are_not_told_as_findings() -> None:
    def told(images: int, half: float) -> str:
        summary = make_summary(images=images)
        layers = [
            layer.model_copy(update={"ci_low": max(0.0, layer.top1 - half), "ci_high": layer.top1 + half})
            for layer in summary.layers
            if layer.top1 is not None
        ]
        return " ".join(text_of(_page(summary.model_copy(update={"layers": layers}))).split())

    many, few = told(1000, 0.03), told(12, 0.25)
    assert "The layers hold more than the head reads there: at layer" in many
    assert "said of these few alone" not in many
    assert "The layers hold more" not in few
    assert "is not told at 12 images" in few
    assert "said of these few alone" in few


def test_a_control_is_above_the_lens_where_its_whole_interval_is() -> None:
    layer = make_summary().layers[0]

    def gap(control: float, control_n: int, between: tuple[float, float]) -> bool | None:
        changed = {"top1": 0.5, "control": control, "control_n": control_n}
        changed |= dict(zip(("ci_low", "ci_high"), between, strict=True))
        found = widest_gap([layer.model_copy(update=changed)])
        return None if found is None else found.told

    assert gap(0.54, 10_000, (0.49, 0.51)) is None
    assert gap(0.6, 10_000, (0.49, 0.51)) is True
    assert gap(0.6, 20, (0.49, 0.51)) is False
    # near-duplicates made the lens's wider than so many images would be: the control's is too
    assert gap(0.6, 10_000, (0.44, 0.56)) is False


def test_the_worst_and_the_best_class_are_not_told_apart_where_their_intervals_overlap() -> None:
    summary = make_summary()
    ranked = [each for each in summary.classes if each.ranked]
    overlapping = [each.model_copy(update={"ci_low": 0.1, "ci_high": 0.9}) for each in ranked]
    apart = [each.model_copy(update={"ci_low": each.recall, "ci_high": each.recall}) for each in ranked]
    for classes, expected in ((overlapping, True), (apart, False)):
        text = text_of(_page(summary.model_copy(update={"classes": classes})))
        assert ("Their intervals overlap: at so many images" in " ".join(text.split())) is expected


def test_an_empty_set_has_a_report_without_any_chart() -> None:
    summary = make_summary(images=0, failed={}, layers=3)
    page = Page(render_set_report(summary, pictures))
    assert not [tag for tag, _ in page.tags if tag in {"svg", "img", "figure"}]
    text = text_of(page)
    assert "The version holds no items." in text
    assert text.count("No item has a result to summarise.") >= 5


def test_a_set_in_which_everything_failed_names_what_failed() -> None:
    summary = make_summary(images=0, failed={"not-an-image": 3})
    page = _page(summary, points=0)
    assert len([row for row in page.rows if row and row[0].startswith("broken-")]) == 3
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_failed_items_that_were_not_handed_over_are_counted_and_pointed_to() -> None:
    text = text_of(Page(render_set_report(make_summary(images=20), pictures)))
    assert "The failed items were not handed to this page one by one." in text
    assert "Each is named with its reason in errors.jsonl." in text


def test_one_label_and_one_layer_have_no_margins_ranks_or_flips() -> None:
    page = _page(make_summary(["only"], layers=1, images=30))
    text = text_of(page)
    assert "A single label is always in the first place." in text
    assert "The job has a single layer: nothing can flip." in text
    assert "How clear the lead is" not in text


@pytest.mark.parametrize("labels", [2, 3, 41])
@pytest.mark.parametrize("layers", [7, 28])
def test_few_and_many_labels_and_layers_have_a_confusion_that_can_be_read(labels: int, layers: int) -> None:
    summary = make_summary([f"label {place}" for place in range(labels)], layers=layers, images=200)
    page = Page(render_set_report(summary, lambda _: None))
    told = [row for row in page.rows if row and row[0] == "label 1" and len(row) == labels + 1]
    drawn = [said for said in page.attributes("aria-label") if said.startswith("True labels against")]
    assert (bool(told), any("of them" in said for said in drawn)) == (labels <= 40, labels > 40)


@pytest.mark.parametrize(("labels", "step"), [(43, 1), (120, 3)])
def test_a_drawn_confusion_names_its_labels_and_leads_to_its_pairs(labels: int, step: int) -> None:
    summary = make_summary([f"label {place}" for place in range(labels)], images=300)
    page = Page(render_set_report(summary, lambda _: None))
    for side in ("down", "across"):
        ticks = [attrs for _, attrs in page.tags if attrs.get("class") == f"place {side}"]
        assert len(ticks) == -(-labels // step)
    (first, *_) = summary.confusion.pairs
    cells = [attrs for _, attrs in page.tags if attrs.get("class") == "cell"]
    assert len(cells) == len(summary.confusion.pairs)
    assert cells[0]["title"] == f"{first.true_label} taken for {first.top}: {first.count}"
    left = 100 / labels * summary.labels.index(first.top)
    assert f"left:{left:.2f}%" in (cells[0]["style"] or "")
    assert (f"one in {step} is named" in text_of(page)) == (step > 1)


def test_a_matrix_that_was_not_kept_leaves_its_pairs() -> None:
    whole_summary = make_summary([f"label {place}" for place in range(50)], images=300)
    confusion = whole_summary.confusion.model_copy(update={"matrix": []})
    summary = whole_summary.model_copy(update={"confusion": confusion})
    text = text_of(Page(render_set_report(summary, pictures)))
    assert "The whole matrix of 50 labels is not kept" in text
    assert "The most frequent confusions" in text


def test_two_jobs_are_told_by_their_difference_and_its_interval_first() -> None:
    page = _page(make_summary(images=60, comparison=_comparison(), drift=_drift()))
    text = text_of(page)
    assert "90.0 % and the other for 88.0 % of the same 400 images: +2.0" in text
    assert f"95 %: {MINUS}1.0 to +5.0), so no difference can be told" in text
    assert "this job alone is right on 21, the other alone on 13: p = 0.230" in text
    rows = [[cell.strip() for cell in row] for row in page.rows if len(row) == 11]
    assert ["1", "2", "1.00", "90.0\u202f%", "88.0\u202f%", "+2.0"] in [row[:6] for row in rows]
    assert ["21", "13", "0.230", EN_DASH] in [row[7:] for row in rows]


def test_drift_is_told_beside_what_chance_gives() -> None:
    page = _page(make_summary(images=60, drift=_drift()))
    text = text_of(page)
    assert "SigLIP-MMD² is 0.01200; none of 1,000 permutations reach it (p < 0.001)" in text
    assert "the drift may be that alone" in text
    cells = [[cell.strip() for cell in row[:2]] for row in page.rows]
    assert ["This version against its reference", "0.01200"] in cells
    assert ["95 % of permutations stay below", "0.00080"] in cells
    assert ["red circle", "10.0\u202f%", "25.0\u202f%", "+15.0"] in [
        row for row in page.rows if len(row) == 4
    ]


def test_of_images_like_their_neighbours_none_is_shown_as_an_outlier() -> None:
    summary = make_summary(images=60)
    items = [
        item.model_copy(update={"score": 1.6 - place / 4})
        for place, item in enumerate(summary.outliers.items[:3])
    ]

    def shown(first: int) -> tuple[str, int]:
        outliers = summary.outliers.model_copy(update={"items": items[first:]})
        page = Page(render_set_report(summary.model_copy(update={"outliers": outliers}), pictures))
        ids = page.attributes("id")
        return text_of(page), sum(each.startswith("outlier-") for each in ids)

    text, cards = shown(0)
    assert (cards, "None stands out" in text) == (1, False)
    text, cards = shown(1)
    assert (cards, "None stands out: the highest score is 1.35." in text) == (0, True)


def test_without_a_comparison_or_a_reference_the_page_says_so() -> None:
    page = Page(render_set_report(make_summary(images=20), pictures))
    text = text_of(page)
    # a line each at the end, and no section
    parts = {"examples", "label-maps", "comparison", "drift", "map"}
    tags = {attrs["id"]: tag for tag, attrs in page.tags if attrs.get("id") in {*parts, "unshown"}}
    assert tags == {**dict.fromkeys(parts, "li"), "unshown": "h2"}
    assert not {f"#{part}" for part in parts} & set(page.attributes("href"))
    assert "No other job was named to compare with." in text
    assert "No reference version was named to measure drift from." in text
    assert "No coordinates were handed to this page." in text
    assert "No examples were handed to this page." in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_in_heat_cells_are_readable(scheme: str) -> None:
    """WCAG 2.2 AA, 4.5 to 1, on the fullest cell there is."""
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text("utf-8"), re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if scheme == "light" else 2]:
        colours |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
    css = (TEMPLATES / "set_report.css").read_text("utf-8")
    (most,) = re.findall(r"calc\(var\(--v\) \* (\d+)%\), transparent", css)
    (least, more) = re.findall(r"calc\((\d+)% \+ var\(--v\) \* (\d+)%\)", css)[0]
    fullest = {"true": int(most), "curve-1": int(most), "false": int(least) + int(more)}
    ground, ink = _rgb(colours["ground"]), _rgb(colours["ink"])
    for name, share in fullest.items():
        cell = (_rgb(colours[name]) * share + ground * (100 - share)) / 100
        assert _contrast(ink, cell) >= 4.5, name


def _page(summary: Summary, **changes: Any) -> Page:
    return Page(render_set_report(summary, pictures, make_supplement(summary, **changes)))


def _comparison() -> dict[str, Any]:
    layer = {
        "layer": 0,
        "other_layer": 0,
        "depth": 0.0,
        "top1": 0.2,
        "other_top1": 0.25,
        "difference": -0.05,
        "ci_low": -0.08,
        "ci_high": -0.02,
        "only_this": 10,
        "only_other": 30,
        "p": 0.0003,
        "p_holm": 0.0003,
        "test": "mcnemar-chi-squared",
    }
    final = {
        "layer": 1,
        "other_layer": 2,
        "depth": 1.0,
        "top1": 0.9,
        "other_top1": 0.88,
        "difference": 0.02,
        "ci_low": -0.01,
        "ci_high": 0.05,
        "only_this": 21,
        "only_other": 13,
        "p": 0.23,
        "p_holm": None,
    }
    return {
        "other_job_id": "job_other",
        "other_model": {"id": "google/siglip-base-patch16-224"},
        "n": 400,
        "tested": 396,
        "left_out": 3,
        "method": "paired-cluster-bootstrap",
        "resamples": 2000,
        "layers": [layer, {**layer, **final}],
    }


def _drift() -> dict[str, Any]:
    return {
        "method": "siglip-mmd",
        "reference_version_id": "ver_reference",
        "reference_manifest_sha256": "0e" * 32,
        "reference_n": 500,
        "n": 60,
        "bandwidth": 1.2,
        "mmd2": 0.012,
        "p": 1 / 1001,
        "permutations": 1000,
        "null_q95": 0.0008,
        "permuted": {"low": -0.001, "high": 0.0012, "counts": [300, 500, 200]},
        "same_set": {
            "repeats": 200,
            "n": 250,
            "mean": -0.0001,
            "q95": 0.0021,
            "spread": {"low": -0.002, "high": 0.003, "counts": [50, 100, 50]},
        },
        "classifier": {"auroc": 0.81, "folds": 5},
        "class_mix": {
            "total_variation": 0.15,
            "p": 0.0001,
            "changed": True,
            "shares": [{"label": "red circle", "reference": 0.1, "current": 0.25}],
        },
        "came": [],
        "went": [],
    }


def _rgb(colour: str) -> Any:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], float)


def _contrast(one: Any, other: Any) -> float:
    dark, bright = sorted(_luminance(colour) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: Any) -> float:
    channels = colour / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
