"""What the overview shows: open jobs by state and model, and how things went over the last hour to month.

Open jobs are counted up to MOST_OPEN of a state, by index; what ended is read from the history by minutes
and never from the jobs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    CompoundSelect,
    Interval,
    Row,
    Select,
    TextClause,
    bindparam,
    exists,
    func,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import Session

from jobs.history import HOUR, quantile
from models.job import Job
from models.types import JobState

MOST_OPEN: Final = 10_000
OPEN: Final = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
ENDED: Final = ("succeeded", "partial", "failed", "cancelled", "expired")
SHARES: Final = {"p50": 0.5, "p95": 0.95}
MINUTE: Final = timedelta(minutes=1)
ALL_TENANTS: Final = "(CAST(:tenant AS text) IS NULL OR tenant = :tenant)"


@dataclass(frozen=True, slots=True)
class Range:
    """How far back a chart goes, and how long one of its points is."""

    name: str
    title: str
    length: timedelta
    step: timedelta

    @property
    def step_s(self) -> int:
        """The same in seconds."""
        return int(self.step / timedelta(seconds=1))

    @property
    def points(self) -> int:
        """How many there are."""
        return int(self.length / self.step)


RANGES: Final = {
    found.name: found
    for found in (
        Range("1h", "1 hour", timedelta(hours=1), MINUTE),
        Range("24h", "24 hours", timedelta(hours=24), 5 * MINUTE),
        Range("7d", "7 days", timedelta(days=7), HOUR),
        Range("30d", "30 days", timedelta(days=30), 2 * HOUR),
    )
}


def open_jobs(tenant: str | None) -> Select[str, str, int, int, datetime]:
    """By state and model: open jobs, their items that are not done, and when the oldest was submitted.

    Of each state the oldest MOST_OPEN + 1 are read, so that it shows when there are more.
    """
    parts = []
    for state in OPEN:
        told = [Job.state == state, Job.deleted_at.is_(None)]
        if tenant is not None:
            told.append(Job.tenant == tenant)
        left = (Job.total - Job.succeeded - Job.failed - Job.dropped).label("left")
        # the state as it is written: a generic plan would not know how rare it is
        part = select(Job.state, Job.model, left, Job.created_at).where(*told)
        parts.append(select(part.order_by(Job.id).limit(MOST_OPEN + 1).subquery()))
    found: CompoundSelect[Any] = union_all(*parts)
    rows = found.subquery("open_jobs")
    return select(
        rows.c.state, rows.c.model, func.count(), func.sum(rows.c.left), func.min(rows.c.created_at)
    ).group_by(rows.c.state, rows.c.model)


def any_job(tenant: str | None) -> Select[bool]:
    """Whether anything was ever submitted."""
    found = select(literal(1)).select_from(Job).where(Job.deleted_at.is_(None))
    return select(exists(found if tenant is None else found.where(Job.tenant == tenant)))


LAST_HOUR: Final = text(f"""
    SELECT coalesce(sum(failed), 0) AS failed, coalesce(sum(succeeded + partial), 0) AS succeeded
    FROM job_minutes WHERE minute > now() - interval '1 hour' AND {ALL_TENANTS}
""")  # noqa: S608 - of a condition in this code
RECENT: Final = text(f"""
    SELECT model, sum(submitted) AS submitted, {", ".join(f"sum({state}) AS {state}" for state in ENDED)}
    FROM job_minutes WHERE minute > now() - interval '10 minutes' GROUP BY model
""")  # noqa: S608 - of the states in this code
"""What was submitted, and what ended, in the last ten minutes, by model."""
ITEM_MINUTES: Final = 5
ITEMS_A_MINUTE: Final = text(f"""
    SELECT coalesce(sum(succeeded + failed), 0) / {ITEM_MINUTES}.0
    FROM item_minutes
    WHERE minute >= date_trunc('minute', now()) - interval '{ITEM_MINUTES} minutes'
      AND minute < date_trunc('minute', now()) AND {ALL_TENANTS}
""")  # noqa: S608 - of a number and a condition in this code
_STATES: Final = ", ".join(ENDED)
_OF_MINUTES: Final = f"SELECT minute, model, submitted, {_STATES}, waited, ran FROM job_minutes"  # noqa: S608 - of the states in this code
_ITEMS_OF_MINUTES: Final = "SELECT minute, succeeded, failed FROM item_minutes"
_SUMMED: Final = "(SELECT coalesce(max(hour) + interval '1 hour', :since) FROM job_hours WHERE tenant = '')"
_HOURS: Final = "FROM job_hours WHERE tenant = coalesce(:tenant, '') AND hour >= :since"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the history of a range is read: by the minute, or by the hour as far as hours are summed up."""

    counts: TextClause
    items: TextClause
    times: TextClause


def _by(since: str, jobs: str, items: str) -> Source:
    jobs = f"({jobs}{_OF_MINUTES} WHERE minute >= {since} AND {ALL_TENANTS}) AS job_minutes"
    items = f"({items}{_ITEMS_OF_MINUTES} WHERE minute >= {since} AND {ALL_TENANTS}) AS item_minutes"
    statements = (
        f"""
        SELECT date_bin(:step, minute, :since) AS bin, sum(submitted) AS submitted,
               {", ".join(f"sum({state}) AS {state}" for state in ENDED)}
        FROM {jobs} GROUP BY bin
        """,  # noqa: S608 - of statements of this code
        f"""
        SELECT date_bin(:step, minute, :since) AS bin, sum(succeeded) AS succeeded, sum(failed) AS failed
        FROM {items} GROUP BY bin
        """,  # noqa: S608 - of statements of this code
        f"""
        SELECT bin, model, what, array_agg(bucket ORDER BY bucket) AS buckets,
               array_agg(jobs ORDER BY bucket) AS jobs
        FROM (
            SELECT date_bin(:step, minute, :since) AS bin, model, what, bucket, sum(jobs) AS jobs
            FROM {jobs}
            CROSS JOIN LATERAL (VALUES ('waited', waited), ('ran', ran)) AS times (what, counts)
            CROSS JOIN LATERAL unnest(counts) WITH ORDINALITY AS counted (jobs, bucket)
            WHERE jobs > 0
            GROUP BY bin, model, what, bucket
        ) AS sums
        GROUP BY bin, model, what
        """,  # noqa: S608 - of statements of this code
    )
    return Source(*(text(asked).bindparams(bindparam("step", type_=Interval())) for asked in statements))


MINUTES: Final = _by(":since", "", "")
HOURS: Final = _by(
    f"greatest(:since, {_SUMMED})",
    f"SELECT hour AS minute, model, submitted, {_STATES}, waited, ran {_HOURS} UNION ALL ",
    f"SELECT hour AS minute, items_succeeded AS succeeded, items_failed AS failed {_HOURS} UNION ALL ",
)


@dataclass(slots=True)
class Series:
    """Values by point of time: `at` in seconds of Unix, all others a minute, or in seconds."""

    range: str
    step_s: int
    at: list[int]
    submitted: list[float]
    ended: dict[str, list[float]]
    items: dict[str, list[float]]
    models: dict[str, dict[str, dict[str, list[float | None]]]]
    """By model, then `waited` and `ran`, then `p50` and `p95`."""


@dataclass(frozen=True, slots=True)
class History:
    """What was read of a range, before it is made into series."""

    range: Range
    now: float
    counts: Sequence[Row[Any]]
    items: Sequence[Row[Any]]
    times: Sequence[Row[Any]]

    def points(self) -> list[int]:
        """When the points begin: at multiples of their length, so that they stay where they are."""
        step_s = self.range.step_s
        last, count = int(self.now) // step_s * step_s, self.range.points
        return [last - step_s * (count - 1 - place) for place in range(count)]


def read_history(session: Session, wanted: Range, tenant: str | None) -> History:
    """Read what series are made of."""
    now = (session.scalar(select(func.now())) or datetime.now(UTC)).timestamp()
    since = datetime.fromtimestamp(History(wanted, now, (), (), ()).points()[0], UTC)
    values = {"since": since, "step": wanted.step, "tenant": tenant}
    source = HOURS if wanted.step >= HOUR else MINUTES
    asked = (source.counts, source.items, source.times)
    return History(wanted, now, *(session.execute(statement, values).all() for statement in asked))


def make_series(read: History) -> Series:
    """How things went; of the point that is not over yet, so far. It takes up to some tenths of a second."""
    at = read.points()
    places = {start: place for place, start in enumerate(at)}
    # the point that is not over yet has had fewer minutes
    minutes = [read.range.step_s / 60] * (len(at) - 1) + [max(1.0, (read.now - at[-1]) / 60)]
    counts = {name: [0.0] * len(at) for name in ("submitted", *ENDED)}
    items = {name: [0.0] * len(at) for name in ("succeeded", "failed")}
    for rows, named in ((read.counts, counts), (read.items, items)):
        for row in rows:
            if (place := places.get(int(row.bin.timestamp()))) is not None:
                for name, found in named.items():
                    found[place] = round(float(getattr(row, name)) / minutes[place], 3)
    submitted = counts.pop("submitted")
    models: dict[str, dict[str, dict[str, list[float | None]]]] = {
        model: {what: {name: [None] * len(at) for name in SHARES} for what in ("waited", "ran")}
        for model in sorted({row.model for row in read.times})
    }
    for row in read.times:
        if (place := places.get(int(row.bin.timestamp()))) is not None:
            for name, value in _quantiles(row.buckets, row.jobs).items():
                models[row.model][row.what][name][place] = value
    return Series(read.range.name, read.range.step_s, at, submitted, counts, items, models)


def _quantiles(buckets: list[int], jobs: list[Any]) -> dict[str, float | None]:
    histogram = [0] * buckets[-1]
    for bucket, count in zip(buckets, jobs, strict=True):
        histogram[bucket - 1] = int(count)
    found = {name: quantile(histogram, share) for name, share in SHARES.items()}
    return {name: None if value is None else float(f"{value:.4g}") for name, value in found.items()}


def last_hour(session: Session, tenant: str | None) -> dict[str, dict[str, dict[str, float | None]]]:
    """By model, how long jobs waited and ran that ended within the last hour."""
    now = session.scalar(select(func.now())) or datetime.now(UTC)
    values = {"since": now - HOUR, "step": 2 * HOUR, "tenant": tenant}
    found: dict[str, dict[str, dict[str, float | None]]] = defaultdict(dict)
    for row in session.execute(MINUTES.times, values):
        found[row.model][row.what] = _quantiles(row.buckets, row.jobs)
    return found
