"""Charts as inline SVG that takes its colours from the page, so that one drawing serves light and dark."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup, escape

Plan: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

INK: Final = "var(--ink)"
MUTED: Final = "var(--muted)"
HAIR: Final = "var(--hair)"
RULE: Final = "var(--rule)"
BAND: Final = "var(--band)"
TRUE: Final = "var(--true)"
FALSE: Final = "var(--false)"
UNKNOWN: Final = "var(--unknown)"
CURVES: Final = tuple(f"var(--curve-{place})" for place in range(1, 9))
FONT: Final = "inherit"
TEXT_PX: Final = 12
WIDTH: Final = 400
"""All charts are this wide, so that their text is equally large when a page gives them equal room."""
MOST_TICKS: Final = 10
PART_ROLES: Final = re.compile(r'(<g class="[^"]*") role="[^"]*" aria-roledescription="[^"]*"')
TOP_TITLE: Final[dict[str, Any]] = {
    "titleAngle": 0,
    "titleAlign": "left",
    "titleX": -42,
    "titleY": -16,
    "domain": False,
    "ticks": False,
    "labelPadding": 6,
}
"""An upright axis whose title stands above it, readable without turning one's head."""


def plan(chart: alt.LayerChart | alt.FacetChart, *, height: int, padding: dict[str, int]) -> Plan:
    """A chart, WIDTH x `height` with its padding, as a specification; its rows are given to `draw`."""
    spec: Plan = (
        chart.properties(
            width=WIDTH - padding["left"] - padding["right"],
            height=height - padding["top"] - padding["bottom"],
            padding=padding,
            autosize="none",
            background="transparent",
        )
        # first, since it forgets the others; the drawing is described once, as a whole
        .configure(aria=False)
        .configure_view(stroke=None)
        .configure_text(font=FONT, fontSize=TEXT_PX)
        .configure_axis(
            labelFont=FONT,
            labelFontSize=TEXT_PX,
            labelColor=MUTED,
            titleFont=FONT,
            titleFontSize=TEXT_PX,
            titleFontWeight="normal",
            titleColor=MUTED,
            domainColor=RULE,
            tickColor=RULE,
            gridColor=HAIR,
        )
        .to_dict()
    )
    return spec


def draw(planned: Plan, rows: Mapping[str, Sequence[Row]], described: str) -> Markup:
    """The chart as one described `<svg>` that has no script, font or link."""
    svg = vl_convert.vegalite_to_svg({**planned, "datasets": rows})
    opened = re.match(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', svg)
    assert opened is not None
    # the parts have roles but no names: the whole has one that is worth hearing
    drawn = PART_ROLES.sub(r"\1", svg[opened.end() :])
    root = f'<svg viewBox="{opened[1]}" role="img" aria-label="{escape(described)}">'
    return Markup(root + drawn)  # noqa: S704 - the renderer escapes the texts of marks


def data(name: str) -> alt.Chart:
    """A chart yet without marks, over the rows that `draw` is given under `name`."""
    return alt.Chart(alt.NamedData(name=name))


def layer_scale(first: float, last: float) -> alt.Scale:
    """Layers along the whole width; a lone one stands in the middle."""
    edge = [first, last] if first < last else [first - 1, last + 1]
    return alt.Scale(domain=edge, nice=False, zero=False)


def layer_axis(layers: tuple[int, ...]) -> alt.Axis:
    """An axis of layers that names the first, the last, and evenly spaced ones between."""
    first, last = layers[0], layers[-1]
    step = next(step for step in (1, 2, 3, 4, 5, 10, 20, 50, 100) if (last - first) / step <= MOST_TICKS)
    # the one before the last would run into it
    between = [layer for layer in layers if (layer - first) % step == 0 and last - layer >= step]
    return alt.Axis(
        values=[*between, last],
        title="layer",
        grid=False,
        format="d",
        titleAnchor="end",
        titlePadding=4,
        domain=False,
        labelFlush=False,
        labelOverlap=False,
    )
