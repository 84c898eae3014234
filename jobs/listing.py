"""Finding jobs: newest first, by what they are, read by index and never counted.

Ids are ordered by time, so that a page ends at an id and the next one begins there. For each state and each
model that is asked for, an index has the newest ones in order; the pages are merged from these.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

from sqlalchemy import ColumnElement, Select, func, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, defer

from models.job import Job
from models.types import JobState, JobType

LATE: Final = timedelta(minutes=1)
"""A job's time is that at which its transaction began, the one in its id is later: by less than this."""
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: of any of the states, types and models, where some are given, and with all of the tags."""

    states: frozenset[JobState] = frozenset()
    types: frozenset[JobType] = frozenset()
    models: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None


def jobs_page(tenant: str | None, wanted: JobFilter, *, before: uuid.UUID | None, limit: int) -> Select[Job]:
    """Jobs of a tenant, or of all (None), older than `before`, newest first: one more than `limit`.

    Without their options and provenance, which may weigh more than all the rest.
    """
    found = job_ids(tenant, wanted, before=before, limit=limit + 1).subquery("found")
    return (
        select(Job)
        .options(defer(Job.options, raiseload=True), defer(Job.provenance, raiseload=True))
        .join(found, found.c.id == Job.id)
        .order_by(found.c.id.desc())
    )


def job_ids(
    tenant: str | None,
    wanted: JobFilter,
    *,
    before: uuid.UUID | None = None,
    up_to: uuid.UUID | None = None,
    ended_by: datetime | None = None,
    limit: int,
) -> Select[uuid.UUID]:
    """The ids of the jobs of a tenant, or of all, newest first: older than `before`, no newer than `up_to`.

    With `ended_by`, only those that had ended by then.
    """
    told = [Job.deleted_at.is_(None), *_told(wanted)]
    if tenant is not None:
        told.append(Job.tenant == tenant)
    if before is not None:
        told.append(Job.id < before)
    if up_to is not None:
        told.append(Job.id <= up_to)
    if ended_by is not None:
        told.append(Job.ended_at <= ended_by)
    # a part for each value, its newest ones only: with lists of values the planner reads and sorts all that
    # they find; and with the values themselves it knows which are rare
    parts = [
        select(Job.id).where(*told, *of_state, *of_model).order_by(Job.id.desc()).limit(limit)
        for of_state, of_model in product(_each(Job.state, wanted.states), _each(Job.model, wanted.models))
    ]
    if len(parts) == 1:
        return parts[0]
    merged = union_all(*(select(part.subquery().c.id) for part in parts)).subquery("merged")
    return select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)


def count_up_to(tenant: str | None, wanted: JobFilter, most: int) -> Select[int]:
    """How many jobs of a tenant, or of all, a filter finds; `most` + 1 stands for all that are more."""
    found = job_ids(tenant, wanted, limit=most + 1).subquery("counted")
    return select(func.count()).select_from(found)


def _each(column: InstrumentedAttribute[str], values: frozenset[str]) -> list[list[ColumnElement[bool]]]:
    """A condition for each value; one that says nothing where none is given."""
    return [[column == value] for value in sorted(values)] or [[]]


def _told(wanted: JobFilter) -> list[ColumnElement[bool]]:
    told: list[ColumnElement[bool]] = []
    if wanted.types:
        told.append(Job.type.in_(sorted(wanted.types)))
    if wanted.tags:
        told.append(Job.tags.contains(dict(wanted.tags)))
    # by the id, which is what the indexes are ordered by, then exactly
    if wanted.created_after is not None:
        told += [Job.id >= first_id(wanted.created_after), Job.created_at > wanted.created_after]
    if wanted.created_before is not None:
        told += [Job.id < first_id(wanted.created_before, LATE), Job.created_at < wanted.created_before]
    return told


def first_id(time: datetime, later: timedelta = timedelta(0)) -> uuid.UUID:
    """The smallest id of version 7 that is made so much later than a time."""
    milliseconds = max(0, (time - _EPOCH + later) // _MILLISECOND)
    return uuid.UUID(int=milliseconds << 80)
