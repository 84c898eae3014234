"""The facts of a lens job, parsed from the API's JSON once and typed from there on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pictures.coverage import PatchGrid

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LensPicture:
    """One picture of a job, as it is brought to the report.

    `item` is the picture's item of `GET /v1/jobs/{id}/results`; `thumbnail` the bytes of the picture, at any
    size and in any format that `pictures.decode` reads; `maps` the patch lens [layer, label, row, col], its
    axes in the order of `item["patch"]`. `true_labels` is empty where they are not known.
    """

    name: str
    custom_id: str | None
    true_labels: tuple[str, ...]
    item: Mapping[str, Any]
    thumbnail: bytes | None = None
    maps: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LensReport:
    """A lens job to be told: `job` is the answer of `GET /v1/jobs/{id}`, `labels` all that were asked for.

    `pictures` are all that were asked about, also those that were never taken; of the first `plates` that
    were read, each gets a plate of its own.
    """

    title: str
    job: Mapping[str, Any]
    pictures: Sequence[LensPicture]
    labels: tuple[str, ...] = ()
    plates: int = 48


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be read, and why."""

    name: str
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The patch lens of one picture: cosines `maps` [layer, label, row, col], and the ends of their scale."""

    layers: tuple[int, ...]
    labels: tuple[str, ...]
    grid: PatchGrid
    method: str
    low: float
    high: float
    maps: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the lens read in one picture.

    `cosine` is [layer, label]; `logit` and `match_probability` [label] are those of the last layer, NaN of
    labels that they say nothing of. `ranked` has the indexes of the kept labels, the best at the last layer
    first.
    """

    name: str
    true_labels: tuple[str, ...]
    width: int
    height: int
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    cosine: Scores
    logit: Scores
    match_probability: Scores
    ranked: tuple[int, ...]
    top: str
    tied: bool
    margin: float | None
    settle_layer: int | None
    top_by_layer: tuple[str, ...]
    patches: Patches | None
    thumbnail: bytes | None

    @property
    def best(self) -> int:
        """The index of the label on top at the last layer."""
        return self.labels.index(self.top)


def read(pictures: Sequence[LensPicture]) -> tuple[list[Reading], list[Failure]]:
    """The pictures that were read and those that failed, each in their order.

    Raises:
        ValueError: maps of another shape than the item says.
    """
    readings = [_reading(picture) for picture in pictures if picture.item["state"] == "succeeded"]
    failures = [_failure(picture) for picture in pictures if picture.item["state"] != "succeeded"]
    return readings, failures


def asked_labels(report: LensReport, readings: Sequence[Reading]) -> tuple[str, ...]:
    """The labels of the job; without being told, those whose scores were kept anywhere."""
    return report.labels or tuple(dict.fromkeys(label for reading in readings for label in reading.labels))


def _reading(picture: LensPicture) -> Reading:
    item = picture.item
    pooled, top = item["pooled"], item["top"]
    cosine = np.array(pooled["cosine"], dtype=np.float64)
    logit = np.array(pooled["final"]["logit"], dtype=np.float64)
    # of directions and vectors there are cosines alone
    last = cosine[-1] if np.isnan(logit).any() else logit
    return Reading(
        name=picture.name,
        true_labels=picture.true_labels,
        width=int(item["width"]),
        height=int(item["height"]),
        layers=tuple(pooled["layers"]),
        labels=tuple(pooled["labels"]),
        cosine=cosine,
        logit=logit,
        match_probability=np.array(pooled["final"]["match_probability"], dtype=np.float64),
        ranked=tuple(int(label) for label in np.argsort(-last, kind="stable")),
        top=top["label"],
        tied=bool(top["tied"]),
        margin=top["margin"],
        settle_layer=top["settle_layer"],
        top_by_layer=tuple(top["label_by_layer"]),
        patches=_patches(picture),
        thumbnail=picture.thumbnail,
    )


def _patches(picture: LensPicture) -> Patches | None:
    patch = picture.item.get("patch")
    if patch is None or picture.maps is None:
        return None
    rows, cols = patch["grid"]
    expected = (len(patch["layers"]), len(patch["labels"]), rows, cols)
    if picture.maps.shape != expected:
        raise ValueError(f"The maps of {picture.name!r} are {picture.maps.shape}, its item says {expected}.")
    return Patches(
        layers=tuple(patch["layers"]),
        labels=tuple(patch["labels"]),
        grid=PatchGrid(rows, cols, patch["patch_size"], patch["image_size"]),
        method=patch["method"],
        low=float(patch["scale"]["low"]),
        high=float(patch["scale"]["high"]),
        maps=picture.maps,
    )


def _failure(picture: LensPicture) -> Failure:
    # an item that is not done yet, or was cancelled, has no error of its own
    error = picture.item.get("error") or {
        "code": picture.item["state"],
        "message": "The job ended before this picture was read.",
        "retryable": True,
    }
    return Failure(picture.name, error["code"], error["message"], bool(error["retryable"]))
