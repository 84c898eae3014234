"""The ledger against Postgres: claims, leases, completing, losing."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from jobs import leases, maintenance, recovery
from jobs.leases import Appetite, Claim, Holder, Renewal
from models.job import Result
from models.types import ItemState, JobState, Priority
from tests.ledger import MODEL, assert_settled, claim, complete, read, results_of, scalar, submit_texts

Sessions = sessionmaker[Session]


def take(sessions: Sessions, **how: Any) -> Claim:
    held = claim(sessions, **how)
    assert held is not None
    return held


def job_of(held: Claim) -> uuid.UUID:
    (unit,) = held.units
    return unit.job_id


def expire(sessions: Sessions) -> int:
    """Let every lease run out, then do the duty; Postgres is said to have been up for long."""
    with sessions.begin() as session:
        session.execute(text("UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'"))
        return maintenance.run_alone(session, 0, recovery.expire_leases)


def test_nothing_to_claim_is_none(sessions: Sessions) -> None:
    assert claim(sessions) is None


def test_a_claim_carries_what_is_needed_to_run_it(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    held = take(sessions)
    (unit,) = held.units
    assert (unit.job_id, unit.unit, unit.attempt, unit.type) == (job_id, 0, 1, "embedding")
    assert [item["text"] for item in unit.items] == ["text 0", "text 1"]
    assert held.size == 2
    assert held.cost > 0
    assert read(sessions, job_id).state == JobState.RUNNING


def test_claims_come_in_order_of_arrival_and_only_of_the_model(sessions: Sessions) -> None:
    other = submit_texts(sessions, model="other")
    first, second = submit_texts(sessions), submit_texts(sessions)
    assert [job_of(take(sessions)) for _ in range(2)] == [first, second]
    assert claim(sessions) is None
    assert job_of(take(sessions, model="other")) == other


def test_a_large_job_is_cut_into_units_that_end_it_together(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    assert read(sessions, job_id).priority == Priority.BULK
    units = scalar(sessions, "SELECT count(*) FROM work")
    assert 1 < units < 100
    for unit in range(units):
        held = take(sessions)
        assert held.units[0].unit == unit
        assert read(sessions, job_id).state == JobState.RUNNING
        assert complete(sessions, held)
    job = read(sessions, job_id)
    assert (job.state, job.succeeded) == (JobState.SUCCEEDED, 100)
    assert job.provenance == {"model": MODEL}
    assert_settled(sessions)


def test_single_items_that_may_share_a_batch_are_claimed_together_across_jobs(sessions: Sessions) -> None:
    alike = [submit_texts(sessions) for _ in range(3)]
    other = submit_texts(sessions, options={"normalize": False})
    held = take(sessions, appetite=Appetite(items=32))
    assert [unit.job_id for unit in held.units] == alike
    assert job_of(take(sessions)) == other
    assert complete(sessions, held, failing=[0])
    assert [read(sessions, job_id).state for job_id in alike] == [JobState.FAILED] * 3


def test_a_batch_is_bounded_by_items_and_by_memory(sessions: Sessions) -> None:
    for _ in range(6):
        submit_texts(sessions)
    assert take(sessions, appetite=Appetite(items=2)).size == 2
    item_bytes = scalar(sessions, "SELECT max(item_bytes) FROM work")
    assert take(sessions, appetite=Appetite(items=32, memory_bytes=3 * item_bytes)).size == 3
    # what fits nowhere is tried alone, not left for ever
    assert take(sessions, appetite=Appetite(items=32, memory_bytes=1)).size == 1


def test_work_that_was_lost_twice_is_claimed_alone(sessions: Sessions) -> None:
    for _ in range(3):
        submit_texts(sessions)
    with sessions.begin() as session:
        session.execute(text("UPDATE work SET losses = 2 WHERE id = (SELECT min(id::text)::uuid FROM work)"))
    assert take(sessions, appetite=Appetite(items=32)).size == 1
    assert take(sessions, appetite=Appetite(items=32)).size == 2


def test_every_unit_goes_to_exactly_one_of_many_workers(sessions: Sessions) -> None:
    for _ in range(24):
        submit_texts(sessions)
    start = threading.Barrier(4)

    def drain(number: int) -> list[uuid.UUID]:
        start.wait()
        mine: list[uuid.UUID] = []
        while held := claim(sessions, worker_id=uuid.UUID(int=number + 1), appetite=Appetite(items=3)):
            mine.extend(unit.job_id for unit in held.units)
            assert complete(sessions, held)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for mine in pool.map(drain, range(4)) for job_id in mine]
    assert len(taken) == len(set(taken)) == 24
    assert_settled(sessions)


def test_some_failed_items_make_a_job_partial(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 3, priority=Priority.BULK)
    held = take(sessions)
    complete(sessions, held, failing=[1])
    job = read(sessions, job_id)
    assert (job.state, job.succeeded, job.failed, job.error) == (JobState.PARTIAL, 2, 1, None)
    assert_settled(sessions)


def test_results_that_take_several_statements_are_each_stored_as_they_are(sessions: Sessions) -> None:
    job_ids = [submit_texts(sessions, 40, priority=Priority.INTERACTIVE) for _ in range(2)]
    held = take(sessions, appetite=Appetite(80))
    assert held.size == 80 > leases.STORED_AT_ONCE
    complete(sessions, held, failing=[0, 39])
    for job_id in job_ids:
        with sessions() as session:
            rows = session.scalars(select(Result).where(Result.job_id == job_id).order_by(Result.index)).all()
        assert [row.item["text"] for row in rows] == [f"text {index}" for index in range(40)]
        assert [row.index for row in rows if row.state == ItemState.FAILED] == [0, 39]
        assert {row.error["code"] for row in rows if row.error} == {"image-truncated"}
        assert [row.payload for row in rows if row.payload is not None] == [{"dimensions": 1}] * 38
    assert_settled(sessions)


def test_a_job_in_which_nothing_succeeded_is_failed_and_says_why(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    held = take(sessions)
    complete(sessions, held, failing=[0, 1])
    job = read(sessions, job_id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "image-truncated"
    assert_settled(sessions)


def test_completing_twice_changes_nothing(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    held = take(sessions)
    assert complete(sessions, held)
    assert not complete(sessions, held)
    assert read(sessions, job_id).succeeded == 1
    assert_settled(sessions)


def test_completing_with_too_few_results_is_refused_whole(sessions: Sessions) -> None:
    submit_texts(sessions, 2, priority=Priority.BULK)
    held = take(sessions)
    (whole,) = results_of(held)
    with pytest.raises(ValueError, match="a job could never end"), sessions.begin() as session:
        leases.complete(session, held.token, [replace(whole, items=whole.items[:1])])
    assert complete(sessions, held)
    assert_settled(sessions)


def test_a_lost_lease_returns_the_work(sessions: Sessions) -> None:
    submit_texts(sessions)
    held = take(sessions)
    assert expire(sessions) == 1
    again = take(sessions)
    assert (job_of(again), again.units[0].attempt) == (job_of(held), 2)
    assert scalar(sessions, "SELECT outcome FROM attempts WHERE attempt = 1") == "lost"


def test_a_late_worker_cannot_finish_a_reclaimed_unit(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    late = take(sessions)
    expire(sessions)
    prompt = take(sessions)
    assert not complete(sessions, late, failing=[0])
    assert complete(sessions, prompt)
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_a_lease_that_is_renewed_does_not_expire(sessions: Sessions) -> None:
    submit_texts(sessions)
    held = take(sessions, ttl_seconds=30)
    with sessions.begin() as session:
        session.execute(text("UPDATE leases SET until = now() - interval '1 second'"))
        assert leases.renew(session, held.token) is Renewal.RENEWED
    assert scalar(sessions, "SELECT until > now() FROM leases")


def test_no_heartbeat_renews_a_lease_past_its_hard_limit(sessions: Sessions) -> None:
    submit_texts(sessions)
    held = take(sessions, hard_limit_seconds=0)
    with sessions.begin() as session:
        assert leases.renew(session, held.token) is Renewal.LOST


def test_leases_are_spared_while_postgres_has_just_started(sessions: Sessions) -> None:
    submit_texts(sessions)
    claim(sessions, ttl_seconds=30)
    with sessions.begin() as session:
        session.execute(text("UPDATE leases SET until = now() - interval '1 second', ttl = interval '1 day'"))
        assert recovery.expire_leases(session) == 0


def test_released_work_waits_longer_each_time(sessions: Sessions) -> None:
    submit_texts(sessions)
    waits = []
    for _ in range(3):
        held = take(sessions)
        with sessions.begin() as session:
            assert leases.release(session, held.token, "out of memory")
        assert claim(sessions) is None
        waits.append(scalar(sessions, "SELECT extract(epoch FROM run_at - now())::float FROM work"))
        with sessions.begin() as session:
            session.execute(text("UPDATE work SET run_at = now()"))
    assert waits[0] < waits[1] < waits[2]
    assert scalar(sessions, "SELECT reason FROM attempts WHERE attempt = 1") == "out of memory"


def test_work_lost_too_often_fails_its_items(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    for _ in range(recovery.MAX_LOSSES):
        assert claim(sessions) is not None
        expire(sessions)
    with sessions.begin() as session:
        assert recovery.fail_hopeless(session) == 1
    job = read(sessions, job_id)
    assert (job.state, job.failed) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error["code"] == "worker-lost"
    assert_settled(sessions)


def test_a_duty_is_done_by_one_process_at_a_time(sessions: Sessions) -> None:
    submit_texts(sessions)
    claim(sessions)
    with sessions.begin() as mine:
        maintenance.run_alone(mine, 0, recovery.expire_leases)
        assert expire(sessions) == 0
    assert expire(sessions) == 1


def test_the_database_refuses_a_job_that_is_done_but_not_counted(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    with sessions() as session, pytest.raises(IntegrityError, match="ended_exactly_when_counted"):
        session.execute(text("UPDATE jobs SET state = 'succeeded' WHERE id = :id"), {"id": job_id})


def test_claim_takes_no_lock_that_a_held_job_could_block(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    with sessions.begin() as other:
        other.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR NO KEY UPDATE"), {"id": job_id})
        with sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '200ms'"))
            holder = Holder(uuid.UUID(int=2), timedelta(seconds=30), timedelta(seconds=60))
            held = leases.claim(session, MODEL, holder)
    assert held is not None
