"""What the report may point at: differences that so many images tell apart, none that may be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.sets.schema import LayerSummary, SettleCurve
from analysis.tallies import wilson

WORTH_TELLING: Final = 0.05
FEW: Final = 20
"""Of fewer answers, a median is of these and of nothing else."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The layer at which the control is furthest above the lens, and whether their intervals lie apart."""

    layer: LayerSummary
    told: bool


def widest_gap(layers: Sequence[LayerSummary]) -> Gap | None:
    """The widest gap that is told apart, else the widest; None where none is worth telling."""
    gaps = [
        (_is_apart(layer), layer.control - layer.top1, layer)
        for layer in layers
        if layer.control is not None
        and layer.top1 is not None
        and layer.control - layer.top1 >= WORTH_TELLING
    ]
    if not gaps:
        return None
    told, _, layer = max(gaps, key=lambda gap: gap[:2])
    return Gap(layer, told)


def are_few(*curves: SettleCurve) -> bool:
    """Whether any of the curves is of so few images that it says nothing of others."""
    return any(curve.n < FEW for curve in curves)


def _is_apart(layer: LayerSummary) -> bool:
    """Whether the control's interval lies above the lens's.

    The summary has none of the control: Wilson's is taken, or one as wide as the lens's, where
    near-duplicates made that wider.
    """
    assert layer.control is not None
    if layer.ci_low is None or layer.ci_high is None or not layer.control_n:
        return False
    of_control = wilson(round(layer.control * layer.control_n), layer.control_n)
    low = min(of_control.low, layer.control - (layer.ci_high - layer.ci_low) / 2)
    return low > layer.ci_high
