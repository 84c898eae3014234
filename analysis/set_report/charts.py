"""All charts of the page, each None where there is nothing to draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from analysis import ink
from analysis.set_report import masks
from analysis.set_report.bars import draw_concentration, draw_flips, draw_settling
from analysis.set_report.facts import Example, Supplement
from analysis.set_report.figures import decimal
from analysis.set_report.lines import SHARES, Level, Line, Upright, draw_lines
from analysis.set_report.pair_charts import PairCharts, draw_pairs
from analysis.set_report.picks import CLASSES_SHOWN, MATRIX_LABELS
from analysis.set_report.plates import Plate, draw_plates
from analysis.set_report.ranks import draw_ranks
from analysis.sets.schema import LayerSummary, SettleCurve, Summary

SIGNED_TICK: Final = "datum.value == 0 ? '0' : format(datum.value, '+.2~f')"
LEAST_MARGIN: Final = 0.5
FEWEST_LABELS: Final = 2
CHANCE_AUROC: Final = 0.5


@dataclass(frozen=True, slots=True)
class Charts:
    """What is drawn; an SVG is markup, a dense plot its masks."""

    accuracy: Markup | None
    ranking: Markup | None
    concentration: Markup | None
    margins: Markup | None
    ranks: Sequence[tuple[Example, Markup]]
    settling: Markup | None
    settled: Markup | None
    classes: masks.Mask | None
    flips: Markup | None
    confusion: Sequence[masks.Mask]
    label_maps: Sequence[Plate]
    pairs: PairCharts
    points: Sequence[masks.Mask]
    places: Sequence[masks.Place]


def draw_all(summary: Summary, beside: Supplement, examples: Sequence[Example]) -> Charts:
    """Every chart that the summary and what stands beside it have data for."""
    layers = summary.layers
    numbers = [layer.layer for layer in layers]
    known = [each for each in summary.classes if each.n]
    dots = beside.points
    return Charts(
        accuracy=_accuracy(summary) if any(layer.top1 is not None for layer in layers) else None,
        ranking=_ranking(layers) if summary.multi_label and layers[-1].macro_auroc is not None else None,
        # the most frequent true label's share is what a top label may rightly have
        concentration=draw_concentration(layers, summary.baselines.majority),
        margins=_margins(layers),
        ranks=[
            (each, draw_ranks(each, numbers, len(summary.labels)))
            for each in examples
            if len(summary.labels) >= FEWEST_LABELS
        ],
        settling=draw_settling(numbers, summary.settle.curves),
        settled=_settled(summary),
        classes=masks.class_mask(known) if len(known) > CLASSES_SHOWN else None,
        flips=draw_flips(layers),
        confusion=(
            masks.confusion_masks(summary.confusion.matrix)
            if len(summary.confusion.matrix) > MATRIX_LABELS
            else ()
        ),
        label_maps=draw_plates(beside.label_maps),
        pairs=draw_pairs(summary.comparison, summary.drift),
        points=masks.point_masks(dots) if dots is not None and len(dots.at) else (),
        places=masks.class_places(dots, summary.labels) if dots is not None and len(dots.at) else (),
    )


def _accuracy(summary: Summary) -> Markup:
    layers = summary.layers
    lens = Line(
        "lens",
        ink.TRUE,
        [layer.top1 for layer in layers],
        [layer.ci_low for layer in layers],
        [layer.ci_high for layer in layers],
    )
    control = Line("control", ink.CURVES[0], [layer.control for layer in layers], dashed=True)
    levels = [
        Level(name, value)
        for name, value in (
            ("chance", summary.baselines.chance),
            ("majority", summary.baselines.majority),
        )
        if value is not None
    ]
    upright = Upright("top label is true", SHARES)
    return draw_lines([layer.layer for layer in layers], [lens, control], upright, levels)


def _ranking(layers: Sequence[LayerSummary]) -> Markup:
    lines = [
        Line("AUROC", ink.TRUE, [layer.macro_auroc for layer in layers]),
        Line("precision", ink.CURVES[0], [layer.macro_ap for layer in layers], dashed=True),
    ]
    levels = [Level("AUROC by chance", CHANCE_AUROC)]
    return draw_lines([layer.layer for layer in layers], lines, Upright("mean over labels", SHARES), levels)


def _margins(layers: Sequence[LayerSummary]) -> Markup | None:
    top = [layer.mean_top_margin for layer in layers]
    true = [layer.mean_true_margin for layer in layers]
    if not any(value is not None for value in (*top, *true)):
        return None
    values = [value for value in (*top, *true) if value is not None]
    upright = Upright(
        "standard deviations",
        (min(0.0, min(values) * 1.05), max(LEAST_MARGIN, max(values) * 1.05)),
        SIGNED_TICK,
        decimal,
    )
    lines = [Line("true label", ink.TRUE, true), Line("top label", ink.CURVES[0], top, dashed=True)]
    return draw_lines([layer.layer for layer in layers], lines, upright)


def _settled(summary: Summary) -> Markup | None:
    inks = {"all": ink.CURVES[0], "right": ink.TRUE, "wrong": ink.FALSE}
    known: list[SettleCurve] = [curve for curve in summary.settle.curves if curve.n]
    if not known:
        return None
    # at the last layer all have settled: what is said at the end is by when half of them have
    lines = [
        Line(
            curve.of,
            inks[curve.of],
            curve.cumulative,
            dashed=curve.of == "all",
            end=curve.of if curve.median is None else f"{curve.of}: half by {curve.median:g}",
        )
        for curve in known
    ]
    return draw_lines([layer.layer for layer in summary.layers], lines, Upright("settled by then", SHARES))
