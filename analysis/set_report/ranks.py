"""One small chart an example: the places of a few labels, layer by layer."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from typing import Final

import altair as alt
import numpy as np
from markupsafe import Markup

from analysis import ink
from analysis.curves import LABEL_GAP_PX, place
from analysis.set_report.facts import Example
from analysis.wording import shorten

HEIGHT: Final = 190
PADDING: Final = {"left": 42, "right": 128, "top": 26, "bottom": 40}
PLOT_WIDTH: Final = ink.WIDTH - PADDING["left"] - PADDING["right"]
PLOT_HEIGHT: Final = HEIGHT - PADDING["top"] - PADDING["bottom"]
NAME_COLUMNS: Final = 16
TICKS: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
TICK_GAP_PX: Final = 13.0


def draw_ranks(example: Example, layers: Sequence[int], labels: int) -> Markup:
    """The chart of one example among so many labels; the first place is above, and steps shrink downwards."""
    shown = list(example.ranks)
    inks = dict(zip(shown, cycle(ink.CURVES), strict=False))
    final = min(shown, key=lambda label: example.ranks[label][-1])
    curves = [
        {
            "label": order,
            "ink": inks[label],
            "layer": layer,
            "place": at,
            "weight": 2.75 if label == final else 1.5,
        }
        for order, label in reversed(list(enumerate(shown)))
        for layer, at in zip(layers, example.ranks[label], strict=True)
    ]
    rows = {
        "curves": curves,
        "leads": [row for row in curves if row["place"] == 1],
        "names": _names(example, shown, inks, final, labels),
    }
    said = "; ".join(f"{shorten(label, 60)} {', '.join(map(str, example.ranks[label]))}" for label in shown)
    described = f"Places among {labels} labels at layers {layers[0]} to {layers[-1]}: {said}."
    return ink.draw(_plan(tuple(layers), labels), rows, described)


@cache
def _plan(layers: tuple[int, ...], labels: int) -> ink.Plan:
    most = max(2, labels)
    axis = alt.Axis(**{**ink.TOP_TITLE, "titleY": -12}, title="place", values=_ticks(most), format="d")
    scale = alt.Scale(type="log", domain=[1, most], reverse=True, nice=False)
    x = alt.X("layer:Q", axis=ink.layer_axis(layers), scale=ink.layer_scale(layers[0], layers[-1]))
    y = alt.Y("place:Q", axis=axis, scale=scale)
    literal = {"detail": "label:N", "color": alt.Color("ink:N", scale=None)}
    names = ink.data("names")
    chart = alt.layer(
        ink.data("curves")
        .mark_line(strokeJoin="round", strokeCap="round")
        .encode(x, y, strokeWidth=alt.StrokeWidth("weight:Q", scale=None), **literal),
        # a dot says: on top here
        ink.data("leads").mark_circle(opacity=1, size=34).encode(x, y, **literal),
        names.mark_rule(strokeWidth=1, opacity=0.6).encode(
            x=alt.value(PLOT_WIDTH + 3), x2=alt.value(PLOT_WIDTH + 11), y=y, y2="placed:Q", **literal
        ),
        *(
            names.transform_filter(alt.datum.final == final)
            .mark_text(align="left", baseline="middle", fontWeight=700 if final else 400)
            .encode(x=alt.value(PLOT_WIDTH + 14), y=alt.Y("placed:Q", scale=scale), text="name:N", **literal)
            for final in (True, False)
        ),
    )
    return ink.plan(chart, height=HEIGHT, padding=PADDING)


def _ticks(most: int) -> list[int]:
    """The first place, the last, and those between that have room on the logarithmic scale."""
    px = PLOT_HEIGHT / math.log(most)
    kept = [1]
    for tick in TICKS:
        if tick < most and min(math.log(tick / kept[-1]), math.log(most / tick)) * px >= TICK_GAP_PX:
            kept.append(tick)
    return [*kept, most]


def _names(
    example: Example, shown: Sequence[str], inks: dict[str, str], final: str, labels: int
) -> list[ink.Row]:
    """A row for each name at the end of its line; the scale is logarithmic, so are the positions."""
    reach = float(np.log(max(2, labels)))
    by_place = sorted(shown, key=lambda label: example.ranks[label][-1])
    ends = [float(np.log(example.ranks[label][-1])) / reach * PLOT_HEIGHT for label in by_place]
    return [
        {
            "label": shown.index(label),
            "ink": inks[label],
            "final": label == final,
            "name": shorten(label, NAME_COLUMNS) + (" \N{CHECK MARK}" if label == example.true_label else ""),
            "place": example.ranks[label][-1],
            "placed": float(np.exp(at / PLOT_HEIGHT * reach)),
        }
        for label, at in zip(by_place, place(ends, LABEL_GAP_PX, PLOT_HEIGHT), strict=True)
    ]
