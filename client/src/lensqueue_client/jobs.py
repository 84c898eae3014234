"""Jobs as the service tells of them; fields that this version does not know stay in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from lensqueue_client.errors import JobFailedError

Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `succeeded + failed + dropped` is `total` exactly when it is done."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    dropped: int = 0
    fraction: float = 0.0
    eta_s: float | None = None
    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why an item, or a whole job, failed."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing of a job is done at the moment, or why a worker could not load."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was last seen. `done` says whether it ended: there is no list of states to know."""

    id: str
    type: str
    state: str
    done: bool
    model: str
    progress: Progress
    priority: str | None = None
    workers_online: int | None = None
    waiting_for: Obstacle | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    error: ItemError | None = None
    provenance: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Whether every item succeeded."""
        return self.done and self.progress.succeeded == self.progress.total

    @property
    def fruitless(self) -> bool:
        """Whether it ended and nothing succeeded."""
        return self.done and self.progress.succeeded == 0

    def raise_for_failure(self) -> Job:
        """This job, unless it ended with nothing to show.

        Raises:
            JobFailedError: it did.
        """
        if self.fruitless:
            raise JobFailedError(self)
        return self


def known(kind: type[Known], told: Mapping[str, Any], **read: Any) -> Known:
    """A value of the fields that this version knows; what is new on the wire is passed over."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    return kind(**{name: value for name, value in told.items() if name in names} | read)


def optional(kind: type[Known], told: Mapping[str, Any] | None) -> Known | None:
    """The same of what may be null."""
    return None if told is None else known(kind, told)


def moment(told: str | None) -> datetime | None:
    """A time of the wire."""
    return None if told is None else datetime.fromisoformat(told)


def job_of(told: Mapping[str, Any]) -> Job:
    """A job out of the service's answer."""
    times = ("created_at", "started_at", "ended_at", "expires_at")
    return known(
        Job,
        told,
        progress=known(Progress, told["progress"]),
        waiting_for=optional(Obstacle, told.get("waiting_for")),
        error=optional(ItemError, told.get("error")),
        tags=told.get("tags") or {},
        links=told.get("links") or {},
        raw=told,
        **{name: moment(told.get(name)) for name in times},
    )
