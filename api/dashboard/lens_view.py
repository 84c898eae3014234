"""What a page shows of an item of a lens: the layer and label that are looked at, and all about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.errors import InvalidRequestError
from jobs.maps import KINDS

COLOURS: Final = 8
"""So many curves are told apart by colour and stroke; more labels are in the table alone."""
LABELS_BY_LAYER: Final = 32
"""So many have all their layers in the table of all layers."""
MAP_NAMES: Final = {
    "patch": "each patch alone, through the head",
    "contribution": "share of the pooled score",
    "probe_attention": "attention of the pooling head",
    "token_norms": "length of the tokens",
}


@dataclass(frozen=True, slots=True)
class MapView:
    """The maps that lie over the picture: their layers, and the ends of their scale."""

    output: str
    layers: Sequence[int]
    unit: str
    labelled: bool
    diverging: bool
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LabelView:
    """One label: its scores at the layer that is looked at, and at the end.

    `place` is where it stands in the stored arrays, `colour` which curve is its own.
    """

    name: str
    place: int
    colour: int | None
    cosine: float | None
    rank: int | None
    probability: float | None
    softmax: float | None
    cosines: Sequence[float]


@dataclass(frozen=True, slots=True)
class LensView:
    """An item as it is looked at: best labels of the end first."""

    layers: Sequence[int]
    scored: Sequence[int]
    layer: int
    label: str
    labels: Sequence[LabelView]
    top: Mapping[str, Any]
    tops: Mapping[int, str]
    low: float
    high: float
    map: MapView | None
    outputs: Sequence[str]

    @property
    def drawn(self) -> bool:
        """Whether there is a map of this layer."""
        return self.map is not None and self.layer in self.map.layers

    @property
    def softmaxed(self) -> bool:
        """Whether its job asked for a softmax."""
        return any(label.softmax is not None for label in self.labels)


def lens_view(
    payload: Mapping[str, Any], layer: int | None, label: str | None, output: str | None
) -> LensView:
    """What is shown at a layer, of a label, of a kind of map: the last, the best, the first unless given.

    Raises:
        InvalidRequestError: the item has no such layer, label or map.
    """
    pooled, top = payload["pooled"], payload["top"]
    outputs = [name for name in KINDS if name in payload]
    maps = _map_view(payload, outputs, output)
    scored: list[int] = pooled["layers"]
    layers = sorted({*scored, *(maps.layers if maps else ())})
    if layer is None:
        layer = maps.layers[-1] if maps else layers[-1]
    names: list[str] = pooled["labels"]
    label = label or top["label"]
    if layer not in layers:
        raise InvalidRequestError(f"Nothing was read at layer {layer}.", pointer="/layer")
    if label not in names:
        raise InvalidRequestError("This item has no scores of that label.", pointer="/label")
    cosine: list[list[float]] = pooled["cosine"]
    all_cosines = [value for row in cosine for value in row]
    return LensView(
        layers=layers,
        scored=scored,
        layer=layer,
        label=label,
        labels=_labels(pooled, scored.index(layer) if layer in scored else None),
        top=top,
        tops=dict(zip(scored, top.get("label_by_layer") or _best(names, cosine), strict=True)),
        low=min(all_cosines),
        high=max(all_cosines),
        map=maps,
        outputs=outputs,
    )


def _map_view(payload: Mapping[str, Any], outputs: Sequence[str], output: str | None) -> MapView | None:
    if output is not None and output not in outputs:
        raise InvalidRequestError("This item has no such maps.", pointer="/map")
    if not outputs:
        return None
    name = output or outputs[0]
    told, kind = payload[name], KINDS[name]
    ends = told["scale"]
    return MapView(
        name, told["layers"], kind.unit, kind.caption is None, kind.diverging, ends["low"], ends["high"]
    )


def _labels(pooled: Mapping[str, Any], row: int | None) -> list[LabelView]:
    names, cosine = pooled["labels"], pooled["cosine"]
    rank, final = pooled.get("rank"), pooled.get("final", {})
    order = sorted(range(len(names)), key=lambda place: -cosine[-1][place])
    return [
        LabelView(
            name=names[place],
            place=place,
            colour=number if number < COLOURS else None,
            cosine=None if row is None else cosine[row][place],
            rank=None if row is None or rank is None else rank[row][place],
            probability=_at(final.get("match_probability"), place),
            softmax=_at(final.get("softmax"), place),
            cosines=[values[place] for values in cosine],
        )
        for number, place in enumerate(order)
    ]


def _at(values: Sequence[float | None] | None, place: int) -> float | None:
    return None if values is None else values[place]


def _best(names: Sequence[str], cosine: Sequence[Sequence[float]]) -> list[str]:
    return [names[max(range(len(names)), key=row.__getitem__)] for row in cosine]
