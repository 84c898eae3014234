"""What each key did on each day, UTC: counted by the processes that serve it, added up here."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    Double,
    Select,
    Uuid,
    any_,
    cast,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.api_key import ApiKey, KeyUsage

USED_AGAIN: Final = timedelta(minutes=3)
"""When a key was last used is not written more often."""


class KeyDay(NamedTuple):
    """A key on a day."""

    key_id: uuid.UUID
    day: date


@dataclass(slots=True)
class Counts:
    """What a key did; `refused` of its requests by a rate limit or a quota, bytes those of bodies."""

    requests: int = 0
    refused: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    jobs: int = 0
    items: int = 0
    gflop: float = 0.0

    def add(self, other: "Counts") -> None:
        """Add what was counted elsewhere."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


NAMES: Final = tuple(field.name for field in fields(Counts))
KINDS: Final = tuple(Double if field.type is float else BigInteger for field in fields(Counts))


def record(session: Session, counted: Mapping[KeyDay, Counts]) -> None:
    """Add what was counted to what is known, and note that the keys were used; one statement."""
    # in one order: processes that record at the same time must not wait for each other in a circle
    days = sorted(counted)
    columns = list(zip(*(astuple(counted[day]) for day in days), strict=True))
    given = (
        func.unnest(
            literal([day.key_id for day in days], ARRAY(Uuid)),
            literal([day.day for day in days], ARRAY(Date)),
            *(literal(list(values), ARRAY(kind)) for values, kind in zip(columns, KINDS, strict=True)),
        )
        .table_valued("key_id", "day", *NAMES, name="given")
        .render_derived()
    )
    # of a key that somebody removed by hand nothing can be kept
    rows = select(given).join(ApiKey, ApiKey.id == given.c.key_id).order_by(given.c.key_id, given.c.day)
    added = insert(KeyUsage).from_select(["key_id", "day", *NAMES], rows)
    counts = added.on_conflict_do_update(
        index_elements=[KeyUsage.key_id, KeyUsage.day],
        set_={name: getattr(KeyUsage, name) + added.excluded[name] for name in NAMES},
    )
    asked = [day.key_id for day in days if counted[day].requests]
    used = (
        select(ApiKey.id)
        .where(ApiKey.id == any_(literal(asked, ARRAY(Uuid))))
        .where(ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < func.now() - USED_AGAIN))
        # whoever holds it is about to write the same
        .with_for_update(key_share=True, skip_locked=True)
    )
    noted = update(ApiKey).where(ApiKey.id.in_(used)).values(last_used_at=func.now())
    session.execute(noted.add_cte(counts.cte("counted")).execution_options(synchronize_session=False))


def count_job(session: Session, key_id: uuid.UUID, items: int, gflop: float) -> None:
    """Add a job that was made for a key, but not by a request: those are counted by who answers them."""
    record(session, {KeyDay(key_id, datetime.now(UTC).date()): Counts(jobs=1, items=items, gflop=gflop)})


def usage_page(
    tenant: str, key_id: uuid.UUID | None, first: date, last: date, *, behind: KeyDay | None, limit: int
) -> Select[KeyUsage]:
    """Days of a tenant's keys, or of one, newest first: one more than `limit`, to tell what follows."""
    page = (
        select(KeyUsage)
        .where(_within(tenant, key_id, first, last))
        .order_by(KeyUsage.day.desc(), KeyUsage.key_id.desc())
        .limit(limit + 1)
    )
    if behind is None:
        return page
    place = tuple_(literal(behind.day, Date), literal(behind.key_id, Uuid))
    return page.where(tuple_(KeyUsage.day, KeyUsage.key_id) < place)


def read_total(session: Session, tenant: str, key_id: uuid.UUID | None, first: date, last: date) -> Counts:
    """What all those days come to."""
    sums = [
        cast(func.coalesce(func.sum(getattr(KeyUsage, name)), 0), kind)
        for name, kind in zip(NAMES, KINDS, strict=True)
    ]
    return Counts(*session.execute(select(*sums).where(_within(tenant, key_id, first, last))).one())


def usage_since(key_ids: Sequence[uuid.UUID], first: date) -> Select[Any]:
    """What some keys did from a day on: a row for each that did anything, with what NAMES name."""
    sums = [
        cast(func.sum(getattr(KeyUsage, name)), kind).label(name)
        for name, kind in zip(NAMES, KINDS, strict=True)
    ]
    return (
        select(KeyUsage.key_id, *sums)
        .where(KeyUsage.key_id.in_(key_ids), KeyUsage.day >= first)
        .group_by(KeyUsage.key_id)
    )


def _within(tenant: str, key_id: uuid.UUID | None, first: date, last: date) -> ColumnElement[bool]:
    keys = select(ApiKey.id).where(ApiKey.tenant == tenant)
    if key_id is not None:
        keys = keys.where(ApiKey.id == key_id)
    return KeyUsage.key_id.in_(keys) & KeyUsage.day.between(first, last)
