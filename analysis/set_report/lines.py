"""Lines by layer with their bands, each named at its end, over levels that stand for what needs no eyes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import altair as alt
import numpy as np
from markupsafe import Markup

from analysis import ink
from analysis.bars import PER_CENT
from analysis.curves import LABEL_GAP_PX, place
from analysis.set_report.figures import per_cent

HEIGHT: Final = 250
PADDING: Final = {"left": 42, "right": 122, "top": 30, "bottom": 40}
PLOT_WIDTH: Final = ink.WIDTH - PADDING["left"] - PADDING["right"]
PLOT_HEIGHT: Final = HEIGHT - PADDING["top"] - PADDING["bottom"]


@dataclass(frozen=True, slots=True)
class Line:
    """Values by layer, None where there are none, and their interval where there is one.

    `end` is written at the line's end instead of its name and last value.
    """

    name: str
    ink: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dashed: bool = False
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A value that is the same at every layer."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Upright:
    """The upright axis: its title, its ends, how it writes a tick (Vega) and a value (Python)."""

    title: str
    between: tuple[float, float]
    tick: str = PER_CENT
    said: Callable[[float], str] = per_cent


SHARES: Final = (0.0, 1.0)


def draw_lines(
    layers: Sequence[int], lines: Sequence[Line], upright: Upright, levels: Sequence[Level] = ()
) -> Markup:
    """The chart of `lines`, those without a value left out; the first is drawn last, over the others."""
    shown = [line for line in lines if any(value is not None for value in line.values)]
    curves = [
        {
            "line": order,
            "ink": line.ink,
            "layer": layer,
            "value": value,
            "weight": 2.5 if line is shown[0] else 1.75,
            "dash": [4, 3] if line.dashed else [1, 0],
        }
        for order, line in reversed(list(enumerate(shown)))
        for layer, value in zip(layers, line.values, strict=True)
    ]
    bands = [
        {"line": order, "ink": line.ink, "layer": layer, "low": low, "high": high}
        for order, line in enumerate(shown)
        for layer, low, high in zip(layers, line.low, line.high, strict=False)
        if low is not None and high is not None
    ]
    rows: dict[str, Sequence[ink.Row]] = {
        "curves": curves,
        "dots": [row for row in curves if row["value"] is not None],
        "bands": bands,
        "levels": [{"value": level.value} for level in levels],
        "zero": [{"value": 0}] if upright.between[0] < 0 < upright.between[1] else [],
        "names": _names(shown, levels, upright),
    }
    return ink.draw(_plan(tuple(layers), upright), rows, _describe(layers, shown, levels, upright))


def around_zero(values: Sequence[float | None], least: float) -> tuple[float, float]:
    """A symmetric range that holds all values, at least `least` either way."""
    extent = max([least, *(abs(value) for value in values if value is not None)])
    return -extent, extent


def _plan(layers: tuple[int, ...], upright: Upright) -> ink.Plan:
    axis = alt.Axis(**ink.TOP_TITLE, title=upright.title, tickCount=5, labelExpr=upright.tick)
    scale = alt.Scale(domain=list(upright.between), nice=False)
    x = alt.X("layer:Q", axis=ink.layer_axis(layers), scale=ink.layer_scale(layers[0], layers[-1]))
    y = alt.Y("value:Q", axis=axis, scale=scale)
    literal = {"detail": "line:N", "color": alt.Color("ink:N", scale=None)}
    names = ink.data("names")
    chart = alt.layer(
        ink.data("bands")
        .mark_area(opacity=0.16)
        .encode(x, y=alt.Y("low:Q", axis=axis, scale=scale), y2="high:Q", **literal),
        ink.data("zero").mark_rule(color=ink.RULE).encode(y=y),
        ink.data("levels").mark_rule(color=ink.MUTED, strokeDash=[2, 3]).encode(y=y),
        ink.data("curves")
        .mark_line(strokeJoin="round", strokeCap="round")
        .encode(
            x,
            y,
            strokeWidth=alt.StrokeWidth("weight:Q", scale=None),
            strokeDash=alt.StrokeDash("dash:N", scale=None),
            **literal,
        ),
        ink.data("dots").mark_circle(opacity=1, size=26).encode(x, y, **literal),
        names.mark_rule(strokeWidth=1, opacity=0.6).encode(
            x=alt.value(PLOT_WIDTH + 3), x2=alt.value(PLOT_WIDTH + 11), y=y, y2="placed:Q", **literal
        ),
        names.mark_text(align="left", baseline="middle").encode(
            x=alt.value(PLOT_WIDTH + 14), y=alt.Y("placed:Q", scale=scale), text="name:N", **literal
        ),
    )
    return ink.plan(chart, height=HEIGHT, padding=PADDING)


def _names(lines: Sequence[Line], levels: Sequence[Level], upright: Upright) -> list[ink.Row]:
    """A row for each name at the end of its line, moved apart from the others."""
    low, high = upright.between
    per_px = (high - low) / PLOT_HEIGHT
    ends = [
        (line.end or f"{line.name} {upright.said(_last(line.values))}", line.ink, _last(line.values))
        for line in lines
    ]
    ends += [(f"{level.name} {upright.said(level.value)}", ink.MUTED, level.value) for level in levels]
    ends.sort(key=lambda end: -end[2])
    wanted = [(high - float(np.clip(value, low, high))) / per_px for _, _, value in ends]
    return [
        {
            "line": order,
            "ink": colour,
            "name": name,
            "value": value,
            "placed": high - at * per_px,
        }
        for order, ((name, colour, value), at) in enumerate(
            zip(ends, place(wanted, LABEL_GAP_PX, PLOT_HEIGHT), strict=True)
        )
    ]


def _last(values: Sequence[float | None]) -> float:
    return next(value for value in reversed(values) if value is not None)


def _describe(layers: Sequence[int], lines: Sequence[Line], levels: Sequence[Level], upright: Upright) -> str:
    told = [
        f"{line.name}: "
        + ", ".join(
            f"layer {layer} {upright.said(value)}"
            for layer, value in zip(layers, line.values, strict=True)
            if value is not None
        )
        for line in lines
    ]
    told += [f"{level.name}: {upright.said(level.value)}" for level in levels]
    return f"{upright.title}, by layer. {'. '.join(told)}."
