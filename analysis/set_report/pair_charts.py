"""The charts of two things side by side: two jobs by layer, two versions against what chance gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import altair as alt
from markupsafe import Markup

from analysis import ink
from analysis.bars import PER_CENT
from analysis.set_report.figures import count, decimal, per_cent, points
from analysis.set_report.lines import SHARES, Line, Upright, around_zero, draw_lines
from analysis.sets.schema_pairs import ClassMix, Comparison, Drift, Histogram
from analysis.wording import shorten

POINTS_TICK: Final = "datum.value == 0 ? '0' : format(100 * datum.value, '+.1~f')"
SMALL_TICK: Final = "datum.value == 0 ? '0' : format(datum.value, '.1~g')"
LEAST_POINTS: Final = 0.02
MIX_SHOWN: Final = 12
NAME_COLUMNS: Final = 22
ROW_PX: Final = 24
CHANCE_HEIGHT: Final = 250
CHANCE: Final = {"left": 42, "right": 14, "top": 44, "bottom": 40}
MIX: Final = {"left": 150, "right": 60, "top": 10, "bottom": 34}
MARGIN: Final = 0.04
LEFT_HALF: Final = 0.5
OPACITIES: Final = (0.8, 0.4)


@dataclass(frozen=True, slots=True)
class PairCharts:
    """What is drawn of a comparison and of a drift, each None where there is none or nothing to draw."""

    compared: Markup | None = None
    difference: Markup | None = None
    chance: Markup | None = None
    mix: Markup | None = None


def draw_pairs(comparison: Comparison | None, drift: Drift | None) -> PairCharts:
    """Every chart that there is something for."""
    by_layer = comparison if comparison is not None and comparison.layers else None
    mix = None if drift is None else drift.class_mix
    return PairCharts(
        compared=None if by_layer is None else draw_compared(by_layer),
        difference=None if by_layer is None else draw_difference(by_layer),
        chance=None if drift is None else draw_chance(drift),
        mix=None if mix is None or not mix.shares else draw_mix(mix),
    )


def draw_compared(comparison: Comparison) -> Markup:
    """Accuracy of both jobs at this one's layers, the other's at those of the same depth."""
    layers = comparison.layers
    lines = [
        Line("this job", ink.TRUE, [layer.top1 for layer in layers]),
        Line("the other", ink.CURVES[3], [layer.other_top1 for layer in layers], dashed=True),
    ]
    return draw_lines([layer.layer for layer in layers], lines, Upright("top label is true", SHARES))


def draw_difference(comparison: Comparison) -> Markup:
    """The paired difference by layer with its interval, around the line where there is none."""
    layers = comparison.layers
    low, high = [layer.ci_low for layer in layers], [layer.ci_high for layer in layers]
    line = Line("this \N{MINUS SIGN} other", ink.CURVES[0], [layer.difference for layer in layers], low, high)
    between = around_zero([*low, *high], LEAST_POINTS)
    upright = Upright("percentage points", between, POINTS_TICK, points)
    return draw_lines([layer.layer for layer in layers], [line], upright)


def draw_chance(drift: Drift) -> Markup:
    """What permutations of the two versions give, what halves of the reference do, and what was measured."""
    spreads = [("permuted", drift.permuted, ink.UNKNOWN)]
    if drift.same_set is not None:
        spreads.append(("halves", drift.same_set.spread, ink.CURVES[4]))
    low = min([drift.mmd2, *(spread.low for _, spread, _ in spreads)])
    high = max([drift.mmd2, *(spread.high for _, spread, _ in spreads)])
    room = MARGIN * (high - low) or 1.0
    domain = [low - room, high + room]
    bars = [
        {**row, "of": name, "ink": colour, "opacity": opacity}
        for (name, spread, colour), opacity in zip(spreads, OPACITIES, strict=False)
        for row in _bars(spread)
    ]
    # the name stands on the side where there is room for it
    left = drift.mmd2 > low + LEFT_HALF * (high - low)
    measured = [{"at": drift.mmd2, "name": f"measured {decimal(drift.mmd2, 5)}"}]
    x = alt.X(
        "from:Q",
        scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=alt.Axis(
            title="MMD\N{SUPERSCRIPT TWO}",
            titleAnchor="end",
            tickCount=5,
            labelExpr=SMALL_TICK,
            grid=False,
            domain=False,
        ),
    )
    y = alt.Y(
        "share:Q",
        scale=alt.Scale(domainMin=0, nice=False),
        axis=alt.Axis(**ink.TOP_TITLE, title="share of draws", tickCount=4, labelExpr=PER_CENT),
    )
    literal = {
        "color": alt.Color("ink:N", scale=None),
        "opacity": alt.Opacity("opacity:Q", scale=None),
    }
    names = ink.data("measured")
    chart = alt.layer(
        ink.data("bars").mark_rect().encode(x, x2="to:Q", y=y, y2=alt.datum(0), **literal),
        names.mark_rule(color=ink.FALSE, strokeWidth=2.5).encode(x="at:Q"),
        names.mark_text(
            align="right" if left else "left", baseline="bottom", dx=4 if left else -4, color=ink.FALSE
        ).encode(x="at:Q", y=alt.value(-6), text="name:N"),
    )
    said = "; ".join(f"{name} from {decimal(of.low, 5)} to {decimal(of.high, 5)}" for name, of, _ in spreads)
    return ink.draw(
        ink.plan(chart, height=CHANCE_HEIGHT, padding=CHANCE),
        {"bars": bars, "measured": measured},
        f"Squared MMD: measured {decimal(drift.mmd2, 5)}; {said}.",
    )


def draw_mix(mix: ClassMix) -> Markup:
    """Of the classes whose shares changed most, a row each: from the share in the reference to that now."""
    shown = mix.shares[:MIX_SHOWN]
    rows = [
        {
            "row": place,
            "before": share.reference,
            "now": share.current,
            "ink": ink.TRUE if share.current >= share.reference else ink.FALSE,
            "end": max(share.reference, share.current),
            "name": shorten(share.label, NAME_COLUMNS),
            "change": points(share.current - share.reference),
        }
        for place, share in enumerate(shown)
    ]
    x = alt.X(
        "before:Q",
        scale=alt.Scale(domainMin=0, nice=True),
        axis=alt.Axis(
            title="share of labelled images",
            titleAnchor="end",
            tickCount=4,
            labelExpr=PER_CENT,
            labelOverlap=False,
        ),
    )
    y = alt.Y("row:O", axis=None, scale=alt.Scale(padding=0.2))
    data = ink.data("rows")
    coloured = alt.Color("ink:N", scale=None)
    chart = alt.layer(
        data.mark_rule(strokeWidth=2.5).encode(x, x2="now:Q", y=y, color=coloured),
        data.mark_circle(opacity=1, size=60, color=ink.UNKNOWN).encode(x, y),
        data.mark_circle(opacity=1, size=80).encode(x="now:Q", y=y, color=coloured),
        data.mark_text(align="left", baseline="middle", dx=9, color=ink.INK).encode(
            x="end:Q", y=y, text="change:N"
        ),
        data.mark_text(align="right", baseline="middle", color=ink.INK).encode(
            x=alt.value(-10), y=y, text="name:N"
        ),
    )
    said = "; ".join(
        f"{shorten(share.label, 60)} from {per_cent(share.reference)} to {per_cent(share.current)}"
        for share in shown
    )
    height = ROW_PX * len(rows) + MIX["top"] + MIX["bottom"]
    return ink.draw(
        ink.plan(chart, height=height, padding=MIX),
        {"rows": rows},
        f"Shares of {count(len(rows))} classes: {said}.",
    )


def _bars(spread: Histogram) -> Sequence[ink.Row]:
    total, bins = max(1, sum(spread.counts)), len(spread.counts)
    width = (spread.high - spread.low) / bins
    return [
        {
            "from": spread.low + place * width,
            "to": spread.low + (place + 1) * width,
            "share": number / total,
        }
        for place, number in enumerate(spread.counts)
        if number
    ]
