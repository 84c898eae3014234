"""One plate a picture: everything that the page shows of it, ready to be set."""

from collections.abc import Collection
from dataclasses import dataclass

from markupsafe import Markup

from analysis.curves import draw_curves, shown_labels
from analysis.facts import Reading
from analysis.overlays import OverlayRow, legend_url, overlay_rows, photo_url
from analysis.tallies import is_true
from analysis.wording import exact, layer_runs, probability, settling


@dataclass(frozen=True, slots=True)
class Line:
    """One label's numbers as text; `leads` tells at which layers it is on top."""

    label: str
    true: bool
    cosine: tuple[str, ...]
    leads: tuple[bool, ...]
    logit: str
    match_probability: str


@dataclass(frozen=True, slots=True)
class Maps:
    """The overlays of a picture with their legend, which runs from `low` to `high`."""

    rows: tuple[OverlayRow, ...]
    layers: tuple[int, ...]
    method: str
    legend: str
    low: float
    high: float
    zero: float | None
    """Where 0 lies on the legend, 0..1, unless too near an end to be named."""


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """A picture on the page; `number` counts from 1 and names its anchor."""

    number: int
    reading: Reading
    photo: str | None
    truth: bool | None
    curves: Markup
    runs: tuple[tuple[str, str], ...]
    settling: str
    lines: tuple[Line, ...]
    hidden_true: tuple[str, ...]
    """True labels without a curve, since no score of theirs was asked for or kept."""
    maps: Maps | None


NEAR_END = 0.12


def make_plate(number: int, reading: Reading, asked: Collection[str], between: tuple[float, float]) -> Plate:
    """The plate of one picture; `between` is the cosine range that all curves share."""
    curved = {reading.labels[label] for label in shown_labels(reading)}
    return Plate(
        number=number,
        reading=reading,
        photo=photo_url(reading.thumbnail),
        truth=is_true(reading, asked),
        curves=draw_curves(reading, between),
        runs=tuple(layer_runs(reading.layers, reading.top_by_layer)),
        settling=settling(reading),
        lines=tuple(_line(reading, label) for label in reading.ranked),
        hidden_true=tuple(label for label in reading.true_labels if label not in curved),
        maps=_maps(reading),
    )


def _line(reading: Reading, label: int) -> Line:
    name = reading.labels[label]
    return Line(
        label=name,
        true=name in reading.true_labels,
        cosine=tuple(exact(value) for value in reading.cosine[:, label]),
        leads=tuple(top == name for top in reading.top_by_layer),
        logit=exact(reading.logit[label]),
        match_probability=probability(reading.match_probability[label]),
    )


def _maps(reading: Reading) -> Maps | None:
    patches = reading.patches
    if patches is None:
        return None
    span = patches.high - patches.low
    zero = -patches.low / span if span > 0 else 0.0
    return Maps(
        rows=tuple(overlay_rows(reading, patches)),
        layers=patches.layers,
        method=patches.method,
        legend=legend_url(patches.low, patches.high),
        low=patches.low,
        high=patches.high,
        zero=zero if NEAR_END < zero < 1 - NEAR_END else None,
    )
