"""The two charts of a whole job: where its pictures settle, and how often the label on top is true."""

import altair as alt
from markupsafe import Markup

from analysis import ink
from analysis.tallies import Tally
from analysis.wording import percent

HEIGHT = 210
PADDING = {"left": 42, "right": 62, "top": 30, "bottom": 40}
PLOT_WIDTH = ink.WIDTH - PADDING["left"] - PADDING["right"]
MOST_COUNTS = 5
WIDEST_BAR_PX = 40
BAR_SHARE = 0.62
PER_CENT = "format(100 * datum.value, 'd') + '\u202f%'"
# drawn in this order, from the axis up
TRUTHS = {True: ink.TRUE, False: ink.FALSE, None: ink.UNKNOWN}


def draw_settling(tally: Tally) -> Markup:
    """Bars: how many pictures settle at each layer, apart by whether their final label is true."""
    layers = tally.layers
    bars: list[ink.Row] = []
    totals: list[ink.Row] = []
    for layer in layers:
        at = 0
        parts = [part for part in tally.settled if part.layer == layer]
        for part in sorted(parts, key=lambda part: list(TRUTHS).index(part.truth)):
            bars.append({"layer": layer, "from": at, "to": at + part.pictures, "ink": TRUTHS[part.truth]})
            at += part.pictures
        totals.append({"layer": layer, "pictures": at, "text": str(at) if at else ""})
    most = max(total["pictures"] for total in totals)
    axis = alt.Axis(
        **ink.TOP_TITLE, title="pictures", tickCount=min(MOST_COUNTS, most), tickMinStep=1, format="d"
    )
    x = alt.X(
        "layer:Q", axis=ink.layer_axis(layers), scale=ink.layer_scale(layers[0] - 0.5, layers[-1] + 0.5)
    )
    y = alt.Y("from:Q", axis=axis, scale=alt.Scale(domain=[0, most], nice=True))
    chart = alt.layer(
        ink.data("bars")
        .mark_bar(size=min(WIDEST_BAR_PX, BAR_SHARE * PLOT_WIDTH / len(layers)))
        .encode(x, y, y2="to:Q", color=alt.Color("ink:N", scale=None)),
        ink.data("totals")
        .mark_text(baseline="bottom", dy=-3, color=ink.INK)
        .encode(x, y=alt.Y("pictures:Q", axis=axis), text="text:N"),
    )
    planned = ink.plan(chart, height=HEIGHT, padding=PADDING)
    said = ", ".join(f"{total['pictures']} at layer {total['layer']}" for total in totals if total["text"])
    return ink.draw(planned, {"bars": bars, "totals": totals}, f"Pictures by settle layer: {said}.")


def draw_truth(tally: Tally) -> Markup:
    """A line: the share of pictures whose top label is true at each layer, with its 95 % band."""
    layers = tally.layers
    rows = [
        {"layer": layer, "share": share.value, "low": share.low, "high": share.high}
        for layer, share in zip(layers, tally.true_by_layer, strict=True)
    ]
    axis = alt.Axis(**ink.TOP_TITLE, title="top label is true", tickCount=5, labelExpr=PER_CENT)
    x = alt.X("layer:Q", axis=ink.layer_axis(layers), scale=ink.layer_scale(layers[0], layers[-1]))
    y = alt.Y("share:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    base, chance, beside = ink.data("shares"), ink.data("chance"), alt.value(PLOT_WIDTH + 10)
    chart = alt.layer(
        base.mark_area(color=ink.TRUE, opacity=0.16).encode(x, y=alt.Y("low:Q", axis=axis), y2="high:Q"),
        chance.mark_rule(color=ink.MUTED, strokeDash=[3, 3]).encode(y=y),
        chance.mark_text(align="left", baseline="middle", color=ink.MUTED).encode(
            x=beside, y=y, text=alt.value("chance")
        ),
        base.mark_line(color=ink.TRUE, strokeWidth=2.5, strokeJoin="round", strokeCap="round").encode(x, y),
        base.mark_circle(color=ink.TRUE, opacity=1, size=30).encode(x, y),
        ink.data("last")
        .mark_text(align="left", baseline="middle", color=ink.TRUE, fontWeight="bold")
        .encode(x=beside, y=y, text=alt.value(percent(tally.true_by_layer[-1].value))),
    )
    planned = ink.plan(chart, height=HEIGHT, padding=PADDING)
    said = ", ".join(f"layer {row['layer']} {percent(row['share'])}" for row in rows)
    return ink.draw(
        planned,
        {"shares": rows, "last": rows[-1:], "chance": [{"share": tally.chance}]},
        f"Share of pictures whose top label is true, by layer: {said}.",
    )
