"""Whole jobs as arrays with named axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lensqueue_client.items import Item


@dataclass(frozen=True, slots=True, eq=False)
class JobArrays:
    """A job's numbers: one row an item that has a result, in its order; NaN where one failed or has no label.

    `cosine` is [item, layer, label], `logit` and `match_probability` [item, label], `embedding`
    [item, width]; what the job did not compute is None. Of jobs with more than 100 labels the best of each
    item are handed out, so that `labels` are those of all items together.
    """

    index: NDArray[np.int64]
    names: tuple[str, ...]
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    cosine: NDArray[np.float32] | None = None
    logit: NDArray[np.float32] | None = None
    match_probability: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None

    def to_xarray(self) -> Any:
        """The same as an xarray.Dataset with the dims item, layer, label and width.

        Raises:
            ImportError: xarray is not installed: `pip install lensqueue-client[xarray]`.
        """
        import xarray  # noqa: PLC0415 - not a dependency: found, or refused, when it is asked for

        dims = {
            "cosine": ("item", "layer", "label"),
            "logit": ("item", "label"),
            "match_probability": ("item", "label"),
            "embedding": ("item", "width"),
        }
        found = {name: getattr(self, name) for name in dims}
        data = {name: (dims[name], values) for name, values in found.items() if values is not None}
        coords: dict[str, Any] = {"item": self.index, "name": ("item", list(self.names))}
        if self.cosine is not None:
            coords |= {"layer": list(self.layers), "label": list(self.labels)}
        return xarray.Dataset(data, coords)


class Rows:
    """The numbers of items as they come in; the items themselves are let go."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def add(self, item: Item) -> None:
        """Keep the numbers of an item."""
        self._rows.append(_Row(item.index, item.name, item.layers, item.labels, _numbers(item)))

    def arrays(self) -> JobArrays:
        """One row an item, in the order of the job."""
        rows = sorted(self._rows, key=lambda row: row.index)
        layers = tuple(sorted({layer for row in rows for layer in row.layers}))
        labels = tuple(dict.fromkeys(label for row in rows for label in row.labels))
        column = {label: place for place, label in enumerate(labels)}
        width = max((len(row.numbers["embedding"]) for row in rows if "embedding" in row.numbers), default=0)
        shapes: dict[str, tuple[int, ...]] = {"embedding": (len(rows), width)} if width else {}
        if labels:
            shapes["cosine"] = (len(rows), len(layers), len(labels))
            shapes["logit"] = shapes["match_probability"] = (len(rows), len(labels))
        found = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in shapes.items()}
        for place, row in enumerate(rows):
            columns = [column[label] for label in row.labels]
            for name, numbers in row.numbers.items():
                if name == "embedding":
                    found[name][place] = numbers
                else:
                    found[name][place][..., columns] = numbers
        return JobArrays(
            index=np.array([row.index for row in rows], dtype=np.int64),
            names=tuple(row.name for row in rows),
            layers=layers,
            labels=labels,
            **found,
        )


def labelled(arrays: JobArrays) -> Any:
    """An xarray.Dataset where xarray is installed, else the arrays as they are."""
    try:
        return arrays.to_xarray()
    except ImportError:
        return arrays


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    index: int
    name: str
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    numbers: dict[str, NDArray[np.float32]]


def _numbers(item: Item) -> dict[str, NDArray[np.float32]]:
    found = {
        "cosine": item.cosine,
        "logit": item.logit,
        "match_probability": item.match_probability,
        "embedding": item.embedding,
    }
    return {name: values for name, values in found.items() if values is not None}
