"""Models that jobs may name, what waits for each, and the workers that serve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lensqueue_client.jobs import Obstacle, known, moment, optional


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes of a checkpoint; `layers` are blocks, a lens has one layer more."""

    image_size: int
    patch_size: int
    grid: tuple[int, int]
    patch_tokens: int
    layers: int
    hidden_size: int


@dataclass(frozen=True, slots=True)
class Queue:
    """The items of a model that wait, and those that a worker holds; while it is paused none is claimed."""

    model: str
    waiting_items: int = 0
    running_items: int = 0
    oldest_s: float | None = None
    paused_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that jobs may name."""

    name: str
    default: bool
    workers_online: int
    queue: Queue
    dimensions: Dimensions | None = None
    gflop_per_s: float | None = None
    error: Obstacle | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it last spoke of itself."""

    id: str
    hostname: str
    model: str
    state: str
    device: str | None = None
    dtype: str | None = None
    gflop_per_s: float | None = None
    error: Obstacle | None = None
    seen_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


def model_of(told: Mapping[str, Any]) -> Model:
    """A model out of the service's answer."""
    sizes = told.get("dimensions")
    return known(
        Model,
        told,
        queue=queue_of({"model": told["name"], **(told.get("queue") or {})}),
        dimensions=known(Dimensions, sizes, grid=tuple(sizes["grid"])) if sizes else None,
        error=optional(Obstacle, told.get("error")),
        raw=told,
    )


def queue_of(told: Mapping[str, Any]) -> Queue:
    """A queue out of the service's answer."""
    return known(Queue, told, paused_at=moment(told.get("paused_at")), raw=told)


def worker_of(told: Mapping[str, Any]) -> Worker:
    """A worker out of the service's answer."""
    return known(
        Worker,
        told,
        error=optional(Obstacle, told.get("error")),
        seen_at=moment(told.get("seen_at")),
        raw=told,
    )
