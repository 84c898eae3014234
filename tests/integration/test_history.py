"""What happened in each minute: counted once, whatever comes late, and kept when the jobs are gone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobs import history
from jobs.history import count_minutes, forget_minutes, merge, quantile, sum_hours
from jobs.listing import LATE, first_id
from models.history import JobHour, JobMinute
from tests.faults import change, do, do_all
from tests.integration.test_plans import nodes, plan_of
from tests.ledger import MODEL, TENANT, scalar

Sessions = sessionmaker[Session]
KEPT = timedelta(days=30)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
COUNTS = "SELECT sum(submitted) || ' ' || sum(succeeded) || ' ' || sum(failed) FROM job_minutes"


def add_jobs(sessions: Sessions, count: int, ended_at: datetime, **facts: Any) -> None:
    """Jobs that were submitted and ended one after another, as many a minute as `every_s` says."""
    values = {
        "tenant": TENANT,
        "model": MODEL,
        "state": "succeeded",
        "every_s": 0.0,
        "waited_s": 1.0,
        "ran_s": 2.0,
    }
    change(
        sessions,
        """INSERT INTO jobs (id, tenant, type, state, model, options, total, succeeded, failed,
                             created_at, started_at, ended_at)
           SELECT uuidv7(created_at - now()), CAST(:tenant AS text), 'embedding', CAST(:state AS text),
                  CAST(:model AS text), '{}', 1,
                  CASE CAST(:state AS text) WHEN 'succeeded' THEN 1 ELSE 0 END,
                  CASE CAST(:state AS text) WHEN 'succeeded' THEN 0 ELSE 1 END,
                  created_at, created_at + make_interval(secs => :waited_s), ended_at
           FROM (
               SELECT ended_at, ended_at - make_interval(secs => :waited_s + :ran_s) AS created_at
               FROM (
                   SELECT CAST(:ended_at AS timestamptz) + n * make_interval(secs => :every_s) AS ended_at
                   FROM generate_series(0, :count - 1) AS n
               ) AS ends
           ) AS times""",
        count=count,
        ended_at=ended_at,
        **(values | facts),
    )


def count(sessions: Sessions) -> int:
    return do_all(sessions, lambda session: count_minutes(session, KEPT))


def rows(sessions: Sessions) -> list[JobMinute]:
    with sessions() as session:
        return list(session.scalars(select(JobMinute).order_by(JobMinute.minute, JobMinute.tenant)))


def test_jobs_are_counted_by_minute_tenant_and_state(sessions: Sessions) -> None:
    add_jobs(sessions, 3, NOON + timedelta(seconds=1))
    add_jobs(sessions, 2, NOON + timedelta(seconds=59), state="failed")
    add_jobs(sessions, 1, NOON + timedelta(seconds=30), tenant="another", waited_s=0, ran_s=0.004)
    change(
        sessions,
        """INSERT INTO jobs (tenant, type, model, state, options, total, failed, created_at, ended_at)
           SELECT tenant, type, model, 'cancelled', options, total, 1, ended_at, ended_at
           FROM jobs WHERE tenant = 'another'""",
    )
    count(sessions)
    before, another, tests = rows(sessions)
    # the first three were submitted in the minute before
    assert (before.minute, before.submitted, before.succeeded, before.ran) == (
        NOON - timedelta(minutes=1),
        3,
        0,
        [],
    )
    assert (tests.submitted, tests.succeeded, tests.failed) == (2, 3, 2)
    assert tests.waited == [0] * 31 + [5]
    assert (another.tenant, another.succeeded, another.cancelled) == ("another", 1, 1)
    # one that never started was not waited for to its start
    assert (sum(another.waited), another.ran) == (1, [0] * 7 + [1])


def test_nothing_is_counted_twice_and_what_commits_late_is_not_missed(sessions: Sessions) -> None:
    now = scalar(sessions, "SELECT now()")
    add_jobs(sessions, 5, now - timedelta(seconds=10))
    count(sessions)
    assert do(sessions, lambda session: count_minutes(session, KEPT)) == 0
    add_jobs(sessions, 2, now - timedelta(seconds=100))
    count(sessions)
    assert scalar(sessions, COUNTS) == "7 7 0"
    # nor is what was counted taken back when jobs are deleted and forgotten
    change(sessions, "DELETE FROM jobs")
    count(sessions)
    assert scalar(sessions, COUNTS) == "7 7 0"


def test_a_ledger_that_was_there_before_is_worked_through_in_slices_and_after_any_end(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "JOBS_AT_ONCE", 50)
    add_jobs(sessions, 300, NOON - timedelta(days=10), every_s=6)
    add_jobs(sessions, 200, NOON, every_s=0.1, state="failed")
    add_jobs(sessions, 7, NOON - timedelta(days=40))
    slices = 0
    while do(sessions, lambda session: count_minutes(session, KEPT)):
        slices += 1
        with sessions() as session:
            # a process that dies has counted nothing
            count_minutes(session, KEPT)
            session.rollback()
    assert slices > 5
    # what is older than history is kept is left out
    assert scalar(sessions, COUNTS) == "500 300 200"
    add_jobs(sessions, 1, NOON + timedelta(hours=5))
    count(sessions)
    assert scalar(sessions, COUNTS) == "501 301 200"


def test_hours_are_summed_up_once_they_change_no_more(sessions: Sessions) -> None:
    for tenant, waited_s in (("a", 1.0), ("b", 60.0)):
        add_jobs(sessions, 100, NOON - timedelta(minutes=40), every_s=60, tenant=tenant, waited_s=waited_s)
    count(sessions)
    change(
        sessions,
        """INSERT INTO item_minutes (minute, model, tenant, succeeded, failed)
           SELECT minute, model, tenant, 10, 1 FROM job_minutes""",
    )
    # the last minute that is known is 12:59
    change(sessions, "DELETE FROM job_minutes WHERE minute >= :end", end=NOON + timedelta(hours=1))
    assert do_all(sessions, sum_hours) == 1
    add_jobs(sessions, 1, NOON + timedelta(hours=1, minutes=4), tenant="a")
    count(sessions)
    assert do_all(sessions, sum_hours) == 1
    minutes = """SELECT sum(submitted), sum(succeeded), (
                     SELECT sum(succeeded) FROM item_minutes WHERE minute < :end
                 ) FROM job_minutes WHERE minute < :end"""
    of_tenants = """SELECT sum(submitted), sum(succeeded), sum(items_succeeded)
                    FROM job_hours WHERE tenant <> ''"""
    with sessions() as session:
        expected = session.execute(text(minutes), {"end": NOON + timedelta(hours=1)}).one()
        assert session.execute(text(of_tenants)).one() == expected
        assert session.execute(text(of_tenants.replace("<>", "="))).one() == expected
    with sessions() as session:
        hours = session.scalars(select(JobHour).where(JobHour.hour == NOON).order_by(JobHour.tenant)).all()
    assert [hour.tenant for hour in hours] == ["", "a", "b"]
    assert [hour.waited[31] for hour in hours] == [hours[1].succeeded, hours[1].succeeded, 0]
    assert merge([hour.waited for hour in hours[1:]]) == hours[0].waited


def test_history_goes_when_its_days_are_over(sessions: Sessions) -> None:
    add_jobs(sessions, 3, NOON, every_s=60)
    count(sessions)
    change(
        sessions,
        """INSERT INTO item_minutes (minute, model, tenant, succeeded)
           SELECT minute, model, tenant, 5 FROM job_minutes""",
    )
    change(
        sessions,
        "UPDATE job_minutes SET minute = minute - interval '30 days' WHERE minute <= :noon",
        noon=NOON,
    )
    change(sessions, "DELETE FROM jobs")
    assert do_all(sessions, lambda session: forget_minutes(session, KEPT)) == 1
    assert scalar(sessions, "SELECT count(*) FROM job_minutes") == 2
    assert scalar(sessions, "SELECT count(*) FROM item_minutes") == 4


def test_a_slice_is_read_by_index_however_many_jobs_there_are(sessions: Sessions) -> None:
    add_jobs(sessions, 100_000, NOON - timedelta(days=10), every_s=5)
    change(sessions, "ANALYZE jobs")
    since = NOON - timedelta(days=7)
    values = {
        "since": since,
        "until": since + timedelta(minutes=4),
        "first_id": first_id(since),
        "last_id": first_id(since + timedelta(minutes=4), LATE),
        "jobs": 1_000,
        "behind": since,
    }
    with sessions() as session:
        for statement in (history.COUNT, history.STOP):
            plan = list(nodes(plan_of(session, str(statement), values)))
            scans = [node for node in plan if node.get("Relation Name") == "jobs"]
            assert scans
            assert all("Index" in node["Node Type"] for node in scans), statement
            assert sum(node["Actual Rows"] for node in scans) <= 2 * 1_000


def test_quantiles_lie_within_a_bucket_of_the_true_ones(sessions: Sessions) -> None:
    drawn = np.random.default_rng(3).lognormal(0, 2, 500)
    with sessions.begin() as session:
        buckets = [
            session.scalar(text("SELECT " + history._bucket("a", "b") + BETWEEN), {"seconds": float(seconds)})
            for seconds in drawn
        ]
    halves = [np.bincount(part).tolist() for part in np.array_split(np.array(buckets), 2)]
    for share in (0.01, 0.5, 0.95, 0.99):
        true = float(np.quantile(drawn, share, method="inverted_cdf"))
        read = quantile(merge(halves), share)
        assert read is not None
        assert abs(np.log10(read / true)) <= 0.1, share


BETWEEN = " FROM (SELECT now() AS a, now() + make_interval(secs => :seconds) AS b) AS times"


def test_quantiles_of_nothing_and_of_what_is_beyond_all_buckets() -> None:
    assert quantile([], 0.5) is None
    assert quantile([0, 0], 0.5) is None
    assert (quantile([4], 0.5) or 1) <= 0.001
    assert quantile([0] * 91 + [1], 0.5) == pytest.approx(1e6, rel=0.26)
