"""Maps of labels as plates: what is read where the label is true, beside what is read of it anyway."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from analysis.set_report.facts import LabelPlate
from analysis.set_report.masks import Mask, opacity
from analysis.sets.schema import Summary

PLATES_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate as the page has it: two masks, of what lies above zero and below."""

    label: str
    masks: Sequence[Mask]


def read_plates(path: Path, summary: Summary) -> list[LabelPlate]:
    """The maps of the first labels that the summary tells of, out of the file beside it; none without one."""
    if summary.label_maps is None or not summary.label_maps.labels:
        return []
    shown = [each.label for each in summary.label_maps.labels[:PLATES_SHOWN]]
    rows = pq.read_table(path, columns=["label", "map"], filters=[("label", "in", shown)]).to_pylist()
    maps = {row["label"]: np.reshape(row["map"], summary.label_maps.grid) for row in rows}
    return [LabelPlate(label, maps[label].astype(np.float32)) for label in shown]


def draw_plates(plates: Sequence[LabelPlate]) -> list[Plate]:
    """All on one scale, whose end is the largest value of any, so that labels can be compared."""
    extent = largest(plates)
    return [
        Plate(
            plate.label,
            [
                Mask("above", opacity(np.maximum(plate.difference, 0) / extent)),
                Mask("below", opacity(np.maximum(-plate.difference, 0) / extent)),
            ],
        )
        for plate in plates
    ]


def largest(plates: Sequence[LabelPlate]) -> float:
    """The end of their scale."""
    return max((float(np.abs(plate.difference).max()) for plate in plates), default=0.0) or 1.0
