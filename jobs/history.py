"""What happened in each minute, counted from the jobs themselves: kept when they are gone, read by charts.

Times are counted in buckets, ten to each power of ten: bucket 0 is below 1 ms, bucket n from 10^((n-1)/10)
to 10^(n/10) ms, and the last one all from 10^9 ms (11.6 days). A quantile read from them lies within the
bucket of the true one, hence within 26 % of it; histograms are added up before that, quantiles never.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Interval, Uuid, bindparam, text
from sqlalchemy.orm import Session

from jobs.listing import LATE, first_id

AGAIN: Final = timedelta(minutes=3)
"""So long before the last minute that is known everything is counted again: a transaction commits later than
the time that it notes."""
JOBS_AT_ONCE: Final = 20_000
"""Of those that have ended and of those that were submitted, so many are counted in a slice, and those of
the minute in which that is reached."""
SLICE_SECONDS: Final = 60
"""More than enough for the fullest minute."""
ROWS_AT_ONCE: Final = 5_000
HOUR: Final = timedelta(hours=1)
PER_DECADE: Final = 10

# `since` is where the table itself says that one has to go on; `behind` where news can begin
BEGIN: Final = text("""
    SELECT greatest(known.minute - :again, first.minute) AS since,
           greatest(known.minute + interval '1 minute', first.minute) AS behind,
           date_trunc('minute', now()) + interval '1 minute' AS until
    FROM (SELECT max(minute) AS minute FROM job_minutes WHERE minute <= now()) AS known,
         (SELECT date_trunc('minute', now() - :kept) + interval '1 minute' AS minute) AS first
""").bindparams(bindparam("again", type_=Interval()), bindparam("kept", type_=Interval()))

STOP: Final = text("""
    SELECT least(
        (
            SELECT CASE count(*) WHEN :jobs THEN max(ended_at) END FROM (
                SELECT ended_at FROM jobs WHERE ended_at >= :behind ORDER BY ended_at LIMIT :jobs
            ) AS ended
        ),
        (
            SELECT CASE count(*) WHEN :jobs THEN max(created_at) END FROM (
                SELECT created_at FROM jobs WHERE id >= :first_id ORDER BY id LIMIT :jobs
            ) AS submitted
        )
    )
""").bindparams(bindparam("first_id", type_=Uuid()))
"""Where a slice is full, none where it reaches to now."""


def _bucket(start: str, end: str) -> str:
    milliseconds = f"greatest(1000 * extract(epoch FROM {end} - {start}), 0.001)"
    # `greatest` passes over nulls: a job that never started is in no bucket
    known = f"{start} IS NOT NULL AND {end} IS NOT NULL"
    return f"CASE WHEN {known} THEN width_bucket(log(CAST({milliseconds} AS float8)), 0, 9, 90) END"


COUNT: Final = text(
    f"""
    WITH ended AS MATERIALIZED (
        SELECT date_trunc('minute', ended_at) AS minute, model, tenant, state,
               {_bucket("created_at", "started_at")} AS waited,
               {_bucket("started_at", "ended_at")} AS ran
        FROM jobs WHERE ended_at >= :since AND ended_at < :until
    ),
    counted AS (
        SELECT date_trunc('minute', created_at) AS minute, model, tenant, 1 AS submitted, NULL AS state
        FROM jobs
        WHERE id >= :first_id AND id < :last_id AND created_at >= :since AND created_at < :until
        UNION ALL
        SELECT minute, model, tenant, 0, state FROM ended
    ),
    sums AS (
        SELECT minute, model, tenant, sum(submitted) AS submitted,
               count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE state = 'partial') AS partial,
               count(*) FILTER (WHERE state = 'failed') AS failed,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE state = 'expired') AS expired
        FROM counted GROUP BY minute, model, tenant
    ),
    taken AS (
        SELECT minute, model, tenant, what, bucket, count(*) AS jobs
        FROM ended CROSS JOIN LATERAL (VALUES ('waited', waited), ('ran', ran)) AS times (what, bucket)
        WHERE bucket IS NOT NULL
        GROUP BY minute, model, tenant, what, bucket
    ),
    histograms AS (
        SELECT minute, model, tenant, what,
               array_agg(CAST(coalesce(jobs, 0) AS integer) ORDER BY bucket) AS counts
        FROM (
            SELECT minute, model, tenant, what, generate_series(0, max(bucket)) AS bucket
            FROM taken GROUP BY minute, model, tenant, what
        ) AS buckets
        LEFT JOIN taken USING (minute, model, tenant, what, bucket)
        GROUP BY minute, model, tenant, what
    )
    INSERT INTO job_minutes AS known (
        minute, model, tenant, submitted, succeeded, partial, failed, cancelled, expired, waited, ran
    )
    SELECT minute, model, tenant, submitted, succeeded, partial, failed, cancelled, expired,
           coalesce(waited.counts, '{{}}'), coalesce(ran.counts, '{{}}')
    FROM sums
    LEFT JOIN (SELECT * FROM histograms WHERE what = 'waited') AS waited USING (minute, model, tenant)
    LEFT JOIN (SELECT * FROM histograms WHERE what = 'ran') AS ran USING (minute, model, tenant)
    ON CONFLICT (minute, model, tenant) DO UPDATE SET
        submitted = excluded.submitted, succeeded = excluded.succeeded, partial = excluded.partial,
        failed = excluded.failed, cancelled = excluded.cancelled, expired = excluded.expired,
        waited = excluded.waited, ran = excluded.ran
    -- what was counted only grows: where there is less, jobs were deleted and forgotten since
    WHERE known.submitted <= excluded.submitted AND known.succeeded <= excluded.succeeded
      AND known.partial <= excluded.partial AND known.failed <= excluded.failed
      AND known.cancelled <= excluded.cancelled AND known.expired <= excluded.expired
      AND (known.submitted, known.succeeded, known.partial, known.failed, known.cancelled, known.expired)
       <> (excluded.submitted, excluded.succeeded, excluded.partial, excluded.failed, excluded.cancelled,
           excluded.expired)
    RETURNING minute
    """  # noqa: S608 - of columns in this code, nothing from outside
).bindparams(bindparam("first_id", type_=Uuid()), bindparam("last_id", type_=Uuid()))


def count_minutes(session: Session, kept: timedelta) -> int:
    """A duty: count the jobs of the minutes that are not known yet, a slice; returns how many rows changed.

    That is, where there is more to count; 0 where it has come to now, whose minute changes all the time.

    Where it begins stands in the table itself, so that after any end it goes on without a gap; it counts the
    last minutes again each time, and of a minute that it has counted before it changes only what is new.
    """
    begin = session.execute(BEGIN, {"again": AGAIN, "kept": kept}).one()
    full_at = session.scalar(
        STOP, {"jobs": JOBS_AT_ONCE, "behind": begin.behind, "first_id": first_id(begin.behind)}
    )
    until = begin.until if full_at is None else min(begin.until, _next_minute(full_at))
    slice_ = {
        "since": begin.since,
        "until": max(until, begin.behind),
        "first_id": first_id(begin.since),
        "last_id": first_id(until, LATE),
    }
    changed = len(session.execute(COUNT, slice_).all())
    return 0 if full_at is None else changed


def _next_minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0) + timedelta(minutes=1)


NEXT_HOUR: Final = text("""
    SELECT date_trunc('hour', least(
        (SELECT min(minute) FROM job_minutes WHERE minute >= behind),
        (SELECT min(minute) FROM item_minutes WHERE minute >= behind)
    ), 'UTC') AS hour,
    (SELECT max(minute) FROM job_minutes WHERE minute <= now()) AS known
    FROM (
        SELECT coalesce(max(hour) + interval '1 hour', '-infinity') AS behind FROM job_hours WHERE tenant = ''
    ) AS summed
""")

SUM: Final = text("""
    WITH jobs AS MATERIALIZED (
        SELECT * FROM job_minutes WHERE minute >= :hour AND minute < :until
    ),
    counted AS (
        SELECT model, tenant, submitted, succeeded, partial, failed, cancelled, expired,
               0 AS items_succeeded, 0 AS items_failed
        FROM jobs
        UNION ALL
        SELECT model, tenant, 0, 0, 0, 0, 0, 0, succeeded, failed
        FROM item_minutes WHERE minute >= :hour AND minute < :until
    ),
    sums AS (
        SELECT coalesce(tenant, '') AS tenant, model,
               sum(submitted) AS submitted, sum(succeeded) AS succeeded, sum(partial) AS partial,
               sum(failed) AS failed, sum(cancelled) AS cancelled, sum(expired) AS expired,
               sum(items_succeeded) AS items_succeeded, sum(items_failed) AS items_failed
        FROM counted GROUP BY GROUPING SETS ((model, tenant), (model))
    ),
    histograms AS (
        SELECT tenant, model, what, array_agg(CAST(counts AS integer) ORDER BY bucket) AS counts
        FROM (
            SELECT coalesce(tenant, '') AS tenant, model, what, bucket, sum(counts) AS counts
            FROM jobs
            CROSS JOIN LATERAL (VALUES ('waited', waited), ('ran', ran)) AS times (what, histogram)
            CROSS JOIN LATERAL unnest(histogram) WITH ORDINALITY AS each (counts, bucket)
            GROUP BY GROUPING SETS ((model, tenant, what, bucket), (model, what, bucket))
        ) AS buckets
        GROUP BY tenant, model, what
    )
    INSERT INTO job_hours (
        tenant, hour, model, submitted, succeeded, partial, failed, cancelled, expired,
        items_succeeded, items_failed, waited, ran
    )
    SELECT tenant, :hour, model, submitted, succeeded, partial, failed, cancelled, expired,
           items_succeeded, items_failed, coalesce(waited.counts, '{}'), coalesce(ran.counts, '{}')
    FROM sums
    LEFT JOIN (SELECT * FROM histograms WHERE what = 'waited') AS waited USING (tenant, model)
    LEFT JOIN (SELECT * FROM histograms WHERE what = 'ran') AS ran USING (tenant, model)
    RETURNING model
""")


def sum_hours(session: Session) -> int:
    """A duty: sum up the next hour of which no minute is counted again; returns how many rows were made.

    Of an hour that is summed up the minutes stay: charts of one day are made of them.
    """
    found = session.execute(NEXT_HOUR).one()
    if found.hour is None or found.known is None or found.known < found.hour + HOUR + AGAIN:
        return 0
    return len(session.execute(SUM, {"hour": found.hour, "until": found.hour + HOUR}).all())


def _forget(table: str, column: str = "minute") -> Any:
    return text(f"""
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE {column} < now() - :kept ORDER BY {column} LIMIT :limit
        )) RETURNING {column}
    """).bindparams(bindparam("kept", type_=Interval()))  # noqa: S608 - of a name in this code


FORGET: Final = _forget("job_minutes"), _forget("item_minutes"), _forget("job_hours", "hour")


def forget_minutes(session: Session, kept: timedelta) -> int:
    """A duty: remove the minutes and hours that are so long ago, a slice; returns how many rows."""
    values = {"kept": kept, "limit": ROWS_AT_ONCE}
    return sum(len(session.execute(statement, values).all()) for statement in FORGET)


def merge(histograms: Sequence[Sequence[int]]) -> list[int]:
    """The counts of all of them, by bucket."""
    merged = [0] * max(map(len, histograms), default=0)
    for histogram in histograms:
        for bucket, count in enumerate(histogram):
            merged[bucket] += count
    return merged


def quantile(histogram: Sequence[int], share: float) -> float | None:
    """The time in seconds below which this share of them lies; none where nothing was counted.

    Within a bucket they are taken to lie evenly on the scale of the buckets, which is that of logarithms.
    """
    total = sum(histogram)
    if not total:
        return None
    left = share * total
    for bucket, count in enumerate(histogram):
        if count and left <= count:
            return _edge(bucket - 1 + left / count)
        left -= count
    return _edge(len(histogram) - 1)


def _edge(place: float) -> float:
    """Where a place on the scale of the buckets lies, in seconds."""
    return 10 ** (max(place, -1) / PER_DECADE) / 1_000
