"""The label curves of one picture: cosine by layer, each line named at its end."""

from collections.abc import Sequence
from functools import cache
from itertools import cycle
from typing import Any, Final

import altair as alt
import numpy as np
from markupsafe import Markup

from analysis import ink
from analysis.facts import Reading
from analysis.wording import shorten, signed

TOP_CURVES = 5
MOST_CURVES = 12
HEIGHT = 250
PADDING = {"left": 42, "right": 128, "top": 30, "bottom": 40}
PLOT_WIDTH = ink.WIDTH - PADDING["left"] - PADDING["right"]
PLOT_HEIGHT = HEIGHT - PADDING["top"] - PADDING["bottom"]
LABEL_GAP_PX = 14.0
NAME_COLUMNS = 16
TICK = 0.1
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+.2~f')"

SETTLED_TEXT: Final[dict[str, Any]] = {"color": ink.INK, "baseline": "bottom"}


def shown_labels(reading: Reading) -> list[int]:
    """The labels that get a curve: the best at the last layer, and the true ones; best first."""
    true = [label for label in reading.ranked if reading.labels[label] in reading.true_labels]
    kept = {*reading.ranked[:TOP_CURVES], *true[: MOST_CURVES - TOP_CURVES]}
    return [label for label in reading.ranked if label in kept]


def shared_range(readings: Sequence[Reading]) -> tuple[float, float]:
    """Lowest and highest cosine of all curves, widened to whole tenths: one scale for every picture."""
    shown = [reading.cosine[:, shown_labels(reading)] for reading in readings]
    low = min((float(scores.min()) for scores in shown), default=0.0)
    high = max((float(scores.max()) for scores in shown), default=0.0)
    return float(np.floor(min(low, 0) / TICK) * TICK), float(np.ceil(max(high, TICK) / TICK) * TICK)


def draw_curves(reading: Reading, between: tuple[float, float]) -> Markup:
    """The chart of one picture; `between` is the range of its axis."""
    shown = shown_labels(reading)
    inks = dict(zip(shown, cycle(ink.CURVES), strict=False))
    curves = _curve_rows(reading, shown, inks)
    rows = {
        "curves": curves,
        # a dot says: this label was on top here
        "leads": [row for row in curves if row["leads"]],
        "names": _name_rows(reading, shown, inks, between),
        "settled": _settled_rows(reading),
        "zero": [{"cosine": 0}],
    }
    return ink.draw(_plan(reading.layers, *between), rows, _describe(reading, shown))


def place(wanted: Sequence[float], gap: float, most: float) -> list[float]:
    """Positions nearest to the wanted ones (ascending) that keep `gap` between them, within 0..most.

    Least squares by pooling neighbours that collide; where the room does not suffice they run past `most`.
    """
    pools: list[list[float]] = []
    for order, position in enumerate(wanted):
        pools.append([position - order * gap])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            collided = pools.pop()
            pools[-1] += collided
    level = [float(np.mean(pool)) for pool in pools for _ in pool]
    room = max(0.0, most - (len(wanted) - 1) * gap)
    return [min(max(each, 0.0), room) + order * gap for order, each in enumerate(level)]


@cache
def _plan(layers: tuple[int, ...], low: float, high: float) -> ink.Plan:
    """The chart without its data, which all pictures of a job share."""
    axis = alt.Axis(**ink.TOP_TITLE, title="cosine", tickCount=5, labelExpr=SIGNED)
    scale = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("layer:Q", axis=ink.layer_axis(layers), scale=ink.layer_scale(layers[0], layers[-1]))
    y = alt.Y("cosine:Q", axis=axis, scale=scale)
    placed = alt.Y("placed:Q", scale=scale)
    literal = {"detail": "curve:N", "color": alt.Color("ink:N", scale=None)}
    said = {"x": x, "y": alt.value(-4), "text": "said:N"}
    settled, curves, names = ink.data("settled"), ink.data("curves"), ink.data("names")
    chart = alt.layer(
        settled.mark_rect(color=ink.BAND).encode(x=x, x2="last:Q"),
        settled.mark_rule(color=ink.INK, strokeWidth=1, strokeDash=[2, 3]).encode(x=x),
        # said on the side where there is room for it
        settled.transform_filter(alt.datum.late)
        .mark_text(align="right", dx=3, **SETTLED_TEXT)
        .encode(**said),
        settled.transform_filter(~alt.datum.late)
        .mark_text(align="left", dx=-3, **SETTLED_TEXT)
        .encode(**said),
        ink.data("zero").mark_rule(color=ink.RULE, strokeWidth=1).encode(y=y),
        curves.mark_line(strokeJoin="round", strokeCap="round").encode(
            x, y, strokeWidth=alt.StrokeWidth("weight:Q", scale=None), **literal
        ),
        ink.data("leads").mark_circle(opacity=1, size=34).encode(x, y, **literal),
        names.mark_rule(strokeWidth=1, opacity=0.6).encode(
            x=alt.value(PLOT_WIDTH + 3), x2=alt.value(PLOT_WIDTH + 11), y=y, y2="placed:Q", **literal
        ),
        *(
            names.transform_filter(alt.datum.best == best)
            .mark_text(align="left", baseline="middle", fontWeight=700 if best else 400)
            .encode(x=alt.value(PLOT_WIDTH + 14), y=placed, text="name:N", **literal)
            for best in (True, False)
        ),
    )
    return ink.plan(chart, height=HEIGHT, padding=PADDING)


def _curve_rows(reading: Reading, shown: list[int], inks: dict[int, str]) -> list[ink.Row]:
    """A row for each dot of each curve, the best label last and so drawn over the others."""
    return [
        {
            "curve": order,
            "ink": inks[label],
            "layer": layer,
            "cosine": float(reading.cosine[row, label]),
            "weight": 2.75 if label == reading.best else 1.5,
            "leads": reading.top_by_layer[row] == reading.labels[label],
        }
        for order, label in enumerate(reversed(shown))
        for row, layer in enumerate(reading.layers)
    ]


def _name_rows(
    reading: Reading, shown: list[int], inks: dict[int, str], between: tuple[float, float]
) -> list[ink.Row]:
    """A row for each name at the end of its curve, moved apart from the others."""
    low, high = between
    per_px = (high - low) / PLOT_HEIGHT
    by_height = sorted(shown, key=lambda label: -reading.cosine[-1, label])
    ends = [float(high - reading.cosine[-1, label]) / per_px for label in by_height]
    return [
        {
            "curve": label,
            "ink": inks[label],
            "best": label == reading.best,
            "name": shorten(reading.labels[label], NAME_COLUMNS)
            + (" \N{CHECK MARK}" if reading.labels[label] in reading.true_labels else ""),
            "cosine": float(reading.cosine[-1, label]),
            "placed": high - at * per_px,
        }
        for label, at in zip(by_height, place(ends, LABEL_GAP_PX, PLOT_HEIGHT), strict=True)
    ]


def _settled_rows(reading: Reading) -> list[ink.Row]:
    layer, last = reading.settle_layer, reading.layers[-1]
    if layer is None:
        return []
    late = layer > (reading.layers[0] + last) / 2
    return [{"layer": layer, "last": last, "late": late, "said": f"settles at {layer}"}]


def _describe(reading: Reading, shown: list[int]) -> str:
    ends = "; ".join(
        f"{shorten(reading.labels[label], 60)} {signed(reading.cosine[-1, label])}" for label in shown
    )
    return f"Cosine by layer, one line a label. At layer {reading.layers[-1]}: {ends}."
