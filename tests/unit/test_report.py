"""The report of a lens job: what a reader finds in the page, and what a browser is never asked to do."""

import base64
import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.curves import LABEL_GAP_PX, draw_curves, place, shared_range, shown_labels
from analysis.facts import LensPicture, LensReport, read
from analysis.overlays import photo_url
from analysis.pages import TEMPLATES
from analysis.report import render_report, write_report
from analysis.tallies import tally, wilson
from analysis.wording import EN_DASH, MINUS, probability, settling, shorten, signed
from tests.reports import HOSTILE, LABELS, LAYERS, ROOT, Page, failed, job, jpeg, picture, report, text_of


def test_every_picture_and_every_label_is_in_the_page() -> None:
    names = [f"picture-{number}.jpg" for number in range(4)]
    page = Page(render_report(report(*(picture(name, seed=seed) for seed, name in enumerate(names)))))
    text = text_of(page)
    assert all(name in text for name in names)
    assert all(text.count(label) >= 1 + len(names) for label in LABELS)
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == [
        f"picture-{n}" for n in (1, 2, 3, 4)
    ]
    assert all(f"#picture-{n}" in page.attributes("href") for n in (1, 2, 3, 4))


def test_beyond_the_plates_the_numbers_are_still_of_all_pictures() -> None:
    many = [picture(f"picture-{number}.jpg", seed=number) for number in range(5)]
    refused = failed("torn.jpg", "image-truncated", "It ends early.")
    # what was refused at its upload is no part of the job
    told = LensReport("A title", job(many), [*many, refused], LABELS, plates=2)
    page = Page(render_report(told))
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == ["picture-1", "picture-2"]
    text = text_of(page)
    assert "6: 5 read, 1 not" in text
    assert "5 of 6 pictures read, 1 not" in text
    assert "1 of 6 pictures, and why" in text
    assert "the first 2 of the 5 that were read" in text


def test_names_and_labels_are_text_whatever_they_hold() -> None:
    pictures = [
        picture(name, labels=HOSTILE, true=(name,), seed=seed, thumbnail=jpeg(), mapped=True)
        for seed, name in enumerate(HOSTILE)
    ]
    broken = failed("<script>broken</script>", "not-an-image", "<b>bold</b>")
    html = render_report(
        LensReport("<script>title</script>", job([*pictures, broken]), [*pictures, broken], HOSTILE)
    )
    page = Page(html)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "iframe", "object", "embed", "form", "link", "base"}
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    # a browser ends a style element at the first closing tag, whatever stands around it
    assert html.count("</style") == 1
    text = "".join(page.texts)
    assert all(text.count(name) >= 2 for name in HOSTILE)
    assert "<script>title</script>" in text
    assert "<b>bold</b>" in text


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_report(target, report(picture("caf\udce9.jpg")))
    assert "caf" in target.read_text(encoding="utf-8")


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = render_report(report(picture(thumbnail=jpeg(), mapped=True)))
    page = Page(html)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    references = page.attributes("src") + page.attributes("href") + page.attributes("xlink:href")
    assert references
    assert all(reference.startswith(("data:image/", "#")) for reference in references)
    assert all(url.startswith('"data:image/jpeg;base64,') for url in re.findall(r"url\(([^)]*)\)", html))
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", re.sub(r"base64,[^\"]*", "", html))


def test_an_anchor_leads_somewhere_and_no_id_is_used_twice() -> None:
    page = Page(render_report(report(picture("a"), picture("b", seed=2), failed("c", "not-an-image", "no"))))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    named = [each for name in ("aria-labelledby", "headers") for each in page.attributes(name)]
    assert {*named, *(href[1:] for href in page.attributes("href"))} <= set(ids)


def test_pictures_and_charts_are_described_to_those_who_do_not_see_them() -> None:
    page = Page(render_report(report(picture(thumbnail=jpeg(), mapped=True, true=("red heart",)))))
    images = [attrs for tag, attrs in page.tags if tag == "img" or attrs.get("role") == "img"]
    assert len(images) == 1 + 3 * len(LAYERS) + 1 + 3
    assert all(attrs.get("alt") or attrs.get("aria-label") for attrs in images)
    parts = [attrs for tag, attrs in page.tags if tag in {"g", "path", "text", "line"}]
    assert not [attrs for attrs in parts if {"role", "aria-roledescription", "aria-label"} & set(attrs)]
    tables = [tag for tag, _ in page.tags if tag == "table"]
    assert len([tag for tag, _ in page.tags if tag == "caption"]) == len(tables)
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in page.tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_failures_are_listed_with_their_reasons() -> None:
    pictures = [picture(), failed("torn.jpg", "image-truncated", "Send the whole file again.")]
    page = Page(render_report(report(*pictures, state="partial")))
    assert ["torn.jpg", "image-truncated", "Send the whole file again.", "no"] in page.rows
    assert "1 of 2" in text_of(page)


def test_a_job_in_which_nothing_succeeded_has_a_report_too() -> None:
    broken = failed("torn.jpg", "image-truncated", "Send the whole file again.")
    text = text_of(Page(render_report(report(broken, state="failed", provenance=None, labels=()))))
    assert "None of the pictures could be read" in text
    assert "image-truncated" in text


def test_the_table_holds_the_numbers_of_the_item() -> None:
    shown = picture(true=("red heart",))
    pooled = shown.item["pooled"]
    cells = {
        row[0].removesuffix(" ✓"): row[1:]
        for row in Page(render_report(report(shown))).rows
        if len(row) == 10
    }
    for place_, label in enumerate(LABELS):
        cosines = [f"{scores[place_]:+.4f}" for scores in pooled["cosine"]]
        assert cells[label][:-2] == cosines
        assert float(cells[label][-2]) == pytest.approx(pooled["final"]["logit"][place_], abs=6e-5)
        assert float(cells[label][-1]) == pytest.approx(
            pooled["final"]["match_probability"][place_], rel=6e-3
        )


def test_a_label_without_a_logit_has_its_cosines_and_a_dash() -> None:
    shown = picture()
    final = shown.item["pooled"]["final"]
    best = LABELS.index(shown.item["top"]["label"])
    for numbers in final.values():
        numbers[best] = None
    ((reading,), _) = read([shown])
    assert reading.ranked[0] == best
    page = Page(render_report(report(shown)))
    (cells,) = [row[-2:] for row in page.rows if len(row) == 10 and row[0] == LABELS[best]]
    assert cells == [EN_DASH, EN_DASH]
    assert not re.search(r"\bnan\b", text_of(page))


def test_curves_name_the_best_and_the_true_labels_once_each() -> None:
    worst = LABELS[int(np.argmin(picture().item["pooled"]["cosine"][-1]))]
    ((reading,), _) = read([picture(true=(worst,))])
    shown = [reading.labels[label] for label in shown_labels(reading)]
    assert len(shown) == 6
    assert shown[0] == reading.top
    assert shown[-1] == worst
    names = re.findall(r"<text [^>]*>([^<]*)</text>", draw_curves(reading, shared_range([reading])))
    assert sorted(name for name in names if name.removesuffix(" ✓") in LABELS) == sorted(
        [*shown[:-1], f"{worst} ✓"]
    )
    assert f"settles at {reading.settle_layer}" in names


def test_curves_take_their_colours_from_the_page() -> None:
    ((reading,), _) = read([picture()])
    svg = draw_curves(reading, (-0.5, 0.5))
    assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) <= {"none"} | set(
        re.findall(r"var\(--[a-z0-9-]+\)", svg)
    )


def test_a_label_that_led_early_is_named_though_its_scores_were_not_kept() -> None:
    shown = picture()
    item = {**shown.item, "top": {**shown.item["top"], "label_by_layer": ["a lost one", *["red heart"] * 6]}}
    assert "a lost one" in text_of(Page(render_report(report(LensPicture("a", None, (), item)))))


def test_settling_is_said_in_words() -> None:
    def said(label_by_layer: str, settle_layer: int | None) -> str:
        shown = picture(labels="ab")
        top = {
            **shown.item["top"],
            "label": "b",
            "label_by_layer": list(label_by_layer),
            "settle_layer": settle_layer,
        }
        ((reading,), _) = read([LensPicture("a", None, (), {**shown.item, "top": top})])
        return settling(reading)

    assert said("bbbbbbb", 0) == "It is on top at every layer, from 0 to 6."
    assert said("aabbbbb", 2) == "It is on top from layer 2 of 6 on, and stays."
    assert said("aaaaaab", 6) == "It comes on top only at the last layer, 6."
    assert said("aabaaab", 6) == "It leads at earlier layers too, but for good only at the last, 6."
    assert "not known" in said("aaaaaab", None)


def test_one_label_alone_has_no_margin_and_a_picture_no_maps() -> None:
    html = render_report(report(picture(labels=("only",)), labels=("only",)))
    assert "leads the second" not in html
    assert "Patch by patch" not in html
    assert "The picture was not kept." in html


def test_maps_lie_on_the_picture_and_share_one_legend() -> None:
    shown = picture(thumbnail=jpeg(), mapped=True, grid=(27, 27, 14, 384))
    page = Page(render_report(report(shown)))
    maps = [
        Image.open(io.BytesIO(base64.b64decode((attrs["src"] or "").split(",")[1])))
        for tag, attrs in page.tags
        if tag == "img"
    ]
    legend, *maps = maps
    assert len(maps) == 3 * len(LAYERS)
    assert {image.size for image in maps} == {(216, 144)}
    # 6 of 384 pixels are covered by no patch, on the right and below
    opacity = maps[0].convert("RGBA").getchannel("A")
    assert [opacity.getpixel(at) for at in ((0, 0), (211, 140), (215, 143))] == [255, 255, 0]
    ends = legend.convert("RGB")
    assert ends.getpixel((0, 0)) != ends.getpixel((ends.width - 1, 0))
    assert f"{MINUS}0.50" in text_of(page)
    assert "+0.50" in text_of(page)


def test_maps_of_another_shape_than_the_item_says_are_refused() -> None:
    shown = picture(mapped=True)
    assert shown.maps is not None
    with pytest.raises(ValueError, match=r"its item says \(7, 7, 10, 10\)"):
        render_report(report(LensPicture("a", None, (), shown.item, None, shown.maps[:, :3])))


def test_what_a_file_says_of_its_maker_stays_behind() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera of mine"
    url = photo_url(jpeg((900, 600), exif=exif, comment=b"at home"))
    assert url is not None
    data = base64.b64decode(url.split(",")[1])
    assert b"camera" not in data
    assert b"at home" not in data
    assert Image.open(io.BytesIO(data)).size == (400, 267)
    assert photo_url(b"torn") is None


def test_truth_is_counted_where_it_was_asked_for() -> None:
    best = picture().item["top"]["label"]
    other = next(label for label in LABELS if label != best)
    readings, _ = read([picture(true=true) for true in ((best,), (other,), ("unasked",), ())])
    found = tally(readings, LABELS)
    assert (found.judged, found.true_by_layer[-1].hits) == (2, 1)
    assert {(part.truth, part.pictures) for part in found.settled} == {(True, 1), (False, 1), (None, 2)}
    assert found.chance == pytest.approx(1 / 7)


def test_intervals_are_those_of_wilson() -> None:
    share = wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5).low == 0
    assert wilson(5, 5).high == 1


def test_names_at_the_ends_of_curves_keep_apart_and_near() -> None:
    assert place([10, 100], LABEL_GAP_PX, 180) == [10, 100]
    assert place([50, 50, 50], 10, 180) == pytest.approx([40, 50, 60])
    crowded = place([0, 1, 2, 179, 180], LABEL_GAP_PX, 180)
    assert crowded[0] == 0
    assert crowded[-1] == 180
    assert min(np.diff(crowded)) >= LABEL_GAP_PX - 1e-9


@pytest.mark.parametrize(
    "text", ["a" * 100, "猫" * 100, "👩\u200d👩\u200d👧" * 40, "e\u0301" * 60, "👋🏽" * 50]
)
def test_long_names_lose_their_middle_and_nothing_is_cut_apart(text: str) -> None:
    short = shorten(text, 20)
    head, tail = short.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    whole = {"a", "猫", "👩\u200d👩\u200d👧", "e\u0301", "👋🏽"}
    assert any(head.replace(each, "") == tail.replace(each, "") == "" for each in whole)
    assert shorten("short", 20) == "short"


def test_numbers_are_written_so_that_none_is_overstated() -> None:
    assert [signed(value) for value in (0.337, -0.5, -0.001)] == ["+0.34", f"{MINUS}0.50", "0.00"]
    assert [probability(value) for value in (0.9197, 0.00001234, 0.99999)] == ["0.92", "1.23e-05", "0.999990"]


def test_caveats_fit_the_checkpoint() -> None:
    demo = text_of(Page(render_report(report(picture()))))
    other = text_of(Page(render_report(report(picture(), model="google/siglip-base-patch16-224"))))
    for text in (demo, other):
        assert "no causal evidence" in text
        assert "0.5 is reached at a cosine of +0.225" in text
    assert "This is the demo checkpoint" in demo
    assert "This is the demo checkpoint" not in other


def test_twenty_four_photographs_with_maps_stay_below_five_megabytes(tmp_path: Path) -> None:
    photographs = sorted((ROOT / "demo" / "samples" / "images").glob("*.jpg"))
    pictures = [
        picture(file.name, seed=seed, thumbnail=file.read_bytes(), mapped=True)
        for seed, file in enumerate(photographs)
    ]
    assert len(pictures) == 24
    target = tmp_path / "report.html"
    write_report(target, report(*pictures))
    assert target.stat().st_size < 5_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_its_ground(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1."""
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if scheme == "light" else 2]:
        colours |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
    texts = ["ink", "muted", "accent", "true", "false", *(f"curve-{number}" for number in range(1, 9))]
    pairs = [(text, ground) for text in texts for ground in ("ground", "card")]
    pairs += [("true", "true-soft"), ("false", "false-soft")]
    faint = {pair: _contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in faint.items() if ratio < 4.5} == {}


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
