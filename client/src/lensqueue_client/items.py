"""Results of single items, their numbers as numpy arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensqueue_client.jobs import ItemError, known, optional


@dataclass(frozen=True, slots=True)
class Top:
    """Which label is on top at the last layer, and from which layer on."""

    label: str
    margin: float | None = None
    settle_layer: int | None = None
    tied: bool = False
    label_by_layer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One picture or text of a job: its result, or in `error` why it has none.

    Of a lens: `cosine` is [layer, label], `logit` and `match_probability` are [label], of the last layer. Of
    an embedding: `embedding` is [width]. All are float32; what a job does not compute is None. `raw` is the
    answer itself, with every other output and where its arrays are.
    """

    index: int
    kind: str
    state: str
    custom_id: str | None = None
    image_id: str | None = None
    width: int | None = None
    height: int | None = None
    error: ItemError | None = None
    layers: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    cosine: NDArray[np.float32] | None = None
    logit: NDArray[np.float32] | None = None
    match_probability: NDArray[np.float32] | None = None
    top: Top | None = None
    embedding: NDArray[np.float32] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What it was called when it was submitted, else its place in the job."""
        return self.custom_id if self.custom_id is not None else str(self.index)


def item_of(told: Mapping[str, Any]) -> Item:
    """An item out of the service's answer."""
    pooled = told.get("pooled") or {}
    final = pooled.get("final") or {}
    top = told.get("top")
    return known(
        Item,
        told,
        error=optional(ItemError, told.get("error")),
        layers=tuple(pooled.get("layers", ())),
        labels=tuple(pooled.get("labels", ())),
        cosine=_floats(pooled.get("cosine")),
        logit=_floats(final.get("logit")),
        match_probability=_floats(final.get("match_probability")),
        top=known(Top, top, label_by_layer=tuple(top.get("label_by_layer", ()))) if top else None,
        embedding=_floats(told.get("embedding")),
        raw=told,
    )


def _floats(numbers: Any) -> NDArray[np.float32] | None:
    if numbers is None:
        return None
    if isinstance(numbers, str):
        # little-endian float32 in base64, if the job asked for that
        return np.frombuffer(base64.b64decode(numbers), dtype="<f4").astype(np.float32)
    return np.asarray(numbers, dtype=np.float32)
