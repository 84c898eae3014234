"""Actions on many jobs: what is done to all that a filter finds, and how far that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from lensqueue_client.jobs import ItemError, known, moment, optional

Verb = Literal["cancel", "retry", "delete"]


class JobFilter(TypedDict, total=False):
    """Which jobs: of any of the states, types and models, with all of the tags; times by RFC 3339."""

    state: Sequence[str] | str
    type: Sequence[str] | str
    model: Sequence[str] | str
    tags: Mapping[str, str]
    created_after: datetime | str
    created_before: datetime | str


@dataclass(frozen=True, slots=True)
class Action:
    """An action as it was last seen: in the end each of the `matched` jobs is `done` or `skipped`."""

    id: str
    action: str
    state: str
    matched: int = 0
    done: int = 0
    skipped: int = 0
    reason: str | None = None
    error: ItemError | None = None
    """The service's first failure at one of the jobs; it went on with the others."""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether it has come to the last of its jobs."""
        return self.ended_at is not None


def action_of(told: Mapping[str, Any]) -> Action:
    """An action out of the service's answer."""
    return known(
        Action,
        told,
        error=optional(ItemError, told.get("error")),
        created_at=moment(told.get("created_at")),
        ended_at=moment(told.get("ended_at")),
        raw=told,
    )


def body_of(verb: Verb, jobs: JobFilter, **said: Any) -> dict[str, Any]:
    """The body that asks for it."""
    return {
        "action": verb,
        "filter": {name: _value(name, value) for name, value in jobs.items()},
        **{name: value for name, value in said.items() if value is not None},
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if name in {"state", "type", "model"}:
        return [value] if isinstance(value, str) else list(value)
    return value
