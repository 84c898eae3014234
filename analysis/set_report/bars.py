"""Bars by layer: the label on top of most images, images that settle, answers that changed."""

from collections.abc import Sequence
from typing import Final

import altair as alt
from markupsafe import Markup

from analysis import ink
from analysis.bars import BAR_SHARE, PER_CENT, WIDEST_BAR_PX
from analysis.set_report.figures import count, per_cent
from analysis.sets.schema import LayerSummary, SettleCurve
from analysis.wording import shorten

ROW_PX: Final = 22
LOW_ROW_PX: Final = 15
MANY_ROWS: Final = 14
LEAST_ROWS: Final = 4
LEAST_SHARE: Final = 0.25
"""The axis of shares reaches at least so far, so that small shares look small."""
NAME_COLUMNS: Final = 20
CONCENTRATION: Final = {"left": 42, "right": 150, "top": 30, "bottom": 30}
COLUMNS_HEIGHT: Final = 250
DIGIT_PX: Final = 7
COLUMNS: Final = {"left": 42, "right": 14, "top": 30, "bottom": 40}
WIDEST_FLIP_PX: Final = 22


def draw_concentration(layers: Sequence[LayerSummary], majority: float | None) -> Markup | None:
    """A bar a layer: the share of images that have its most frequent top label; None without images."""
    rows = [
        {
            "layer": str(layer.layer),
            "share": layer.most_predicted_share,
            "name": f"{per_cent(layer.most_predicted_share)} {shorten(layer.most_predicted, NAME_COLUMNS)}",
        }
        for layer in layers
        if layer.most_predicted is not None and layer.most_predicted_share is not None
    ]
    if not rows:
        return None
    axis = alt.Axis(
        title=None,
        tickCount=3,
        labelExpr=PER_CENT,
        labelOverlap=False,
        domain=False,
        ticks=False,
        gridColor=ink.HAIR,
    )
    most = max([LEAST_SHARE, majority or 0.0, *(layer.most_predicted_share or 0.0 for layer in layers)])
    x = alt.X("share:Q", axis=axis, scale=alt.Scale(domain=[0, most], nice=False))
    y = alt.Y(
        "layer:O",
        sort=None,
        axis=alt.Axis(**{**ink.TOP_TITLE, "title": "layer"}, domainColor=ink.RULE),
        scale=alt.Scale(padding=0.22),
    )
    bars = ink.data("bars")
    chart = alt.layer(
        bars.mark_bar(color=ink.CURVES[1], opacity=0.8).encode(x, y),
        ink.data("majority").mark_rule(color=ink.MUTED, strokeDash=[2, 3]).encode(x=x),
        bars.mark_text(align="left", baseline="middle", dx=5, color=ink.INK).encode(x, y, text="name:N"),
    )
    row_px = ROW_PX if len(rows) <= MANY_ROWS else LOW_ROW_PX
    height = row_px * max(LEAST_ROWS, len(rows)) + CONCENTRATION["top"] + CONCENTRATION["bottom"]
    said = "; ".join(f"layer {row['layer']} {row['name']}" for row in rows)
    return ink.draw(
        ink.plan(chart, height=height, padding=CONCENTRATION),
        {"bars": rows, "majority": [] if majority is None else [{"share": majority}]},
        f"The label on top of most images, by layer: {said}.",
    )


def draw_settling(layers: Sequence[int], curves: Sequence[SettleCurve]) -> Markup | None:
    """Images by settle layer, apart by whether their final label is true; None without images."""
    counts = {curve.of: curve.counts for curve in curves if curve.n}
    if "all" not in counts:
        return None
    none = [0] * len(layers)
    right, wrong = counts.get("right", none), counts.get("wrong", none)
    bars: list[ink.Row] = []
    for place, layer in enumerate(layers):
        at = 0
        unknown = counts["all"][place] - right[place] - wrong[place]
        for images, colour in ((right[place], ink.TRUE), (wrong[place], ink.FALSE), (unknown, ink.UNKNOWN)):
            bars.append({"layer": layer, "from": at, "to": at + max(0, images), "ink": colour})
            at += max(0, images)
    totals = [
        {"layer": layer, "images": images, "text": count(images) if images else ""}
        for layer, images in zip(layers, counts["all"], strict=True)
    ]
    x, room = _columns(layers)
    most = max(counts["all"])
    axis = alt.Axis(**ink.TOP_TITLE, title="images", tickCount=min(5, most), tickMinStep=1, format=",d")
    y = alt.Y("from:Q", axis=axis, scale=alt.Scale(domain=[0, most], nice=True))
    fits = max(len(str(total["text"])) for total in totals) * DIGIT_PX <= room
    chart = alt.layer(
        ink.data("bars")
        .mark_bar(size=min(WIDEST_BAR_PX, BAR_SHARE * room))
        .encode(x, y, y2="to:Q", color=alt.Color("ink:N", scale=None)),
        ink.data("totals")
        .mark_text(baseline="bottom", dy=-3, color=ink.INK)
        .encode(x, y=alt.Y("images:Q", axis=axis), text="text:N"),
    )
    said = ", ".join(f"{total['text']} at layer {total['layer']}" for total in totals if total["text"])
    return ink.draw(
        ink.plan(chart, height=COLUMNS_HEIGHT, padding=COLUMNS),
        {"bars": bars, "totals": totals if fits else []},
        f"Images by settle layer: {said}.",
    )


def draw_flips(layers: Sequence[LayerSummary]) -> Markup | None:
    """Answers that became true above the line, that ceased to be below it; None where none are known."""
    known = [layer for layer in layers if layer.flips is not None]
    if not known:
        return None
    numbers = tuple(layer.layer for layer in layers)
    bars: list[ink.Row] = []
    others: list[ink.Row] = []
    for layer in known:
        assert layer.flips is not None
        bars.append({"layer": layer.layer, "images": layer.flips.wrong_right, "ink": ink.TRUE})
        bars.append({"layer": layer.layer, "images": -layer.flips.right_wrong, "ink": ink.FALSE})
        others.append({"layer": layer.layer, "images": layer.flips.wrong_wrong, "ink": ink.UNKNOWN})
    extent = [row["images"] for row in (*bars, *others)]
    axis = alt.Axis(**ink.TOP_TITLE, title="images", tickCount=6, labelExpr="format(abs(datum.value), ',d')")
    x, room = _columns(numbers)
    scale = alt.Scale(domain=[min(0, *extent), max(1, *extent)], nice=True)
    y = alt.Y("images:Q", axis=axis, scale=scale)
    wide = min(WIDEST_FLIP_PX, BAR_SHARE * room)
    chart = alt.layer(
        ink.data("bars")
        .mark_bar(size=wide, xOffset=-wide / 4)
        .encode(x, y, color=alt.Color("ink:N", scale=None)),
        ink.data("others")
        .mark_bar(size=wide / 3, xOffset=wide / 2, opacity=0.55)
        .encode(x, y, color=alt.Color("ink:N", scale=None)),
        ink.data("zero").mark_rule(color=ink.RULE).encode(y=y),
    )
    said = "; ".join(
        f"layer {layer.layer}: {count(layer.flips.wrong_right)} became true,"
        f" {count(layer.flips.right_wrong)} ceased to be,"
        f" {count(layer.flips.wrong_wrong)} went from one wrong label to another"
        for layer in known
        if layer.flips is not None
    )
    return ink.draw(
        ink.plan(chart, height=COLUMNS_HEIGHT, padding=COLUMNS),
        {"bars": bars, "others": others, "zero": [{"images": 0}]},
        f"Answers that changed since the layer before: {said}.",
    )


def _columns(layers: Sequence[int]) -> tuple[alt.X, float]:
    """The axis of layers for upright bars, and the pixels that each has."""
    scale = ink.layer_scale(layers[0] - 0.5, layers[-1] + 0.5)
    room = (ink.WIDTH - COLUMNS["left"] - COLUMNS["right"]) / (layers[-1] - layers[0] + 1)
    return alt.X("layer:Q", axis=ink.layer_axis(tuple(layers)), scale=scale), room
