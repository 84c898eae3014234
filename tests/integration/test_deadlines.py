"""Jobs that end before they are done: cancelled, not begun in time, or running for too long."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import deadlines, leases
from jobs.cancel import DROPPED_AT_ONCE, cancel, drop_work
from jobs.errors import AlreadyEndedError, NotFoundError
from jobs.leases import Appetite, Claim, Holder, Renewal
from jobs.submission import Terms
from models.job import Job
from models.types import JobState, Priority
from tests.faults import cancel_job, change, do, do_all, in_thread
from tests.ledger import (
    MODEL,
    TENANT,
    WORKER,
    assert_settled,
    claim,
    complete,
    read,
    results_of,
    scalar,
    submit_texts,
)

Sessions = sessionmaker[Session]
BULK = Priority.BULK
SOON = Terms(start_within=timedelta(seconds=60))
SHORT = Terms(run_timeout=timedelta(seconds=60))


def take(sessions: Sessions) -> Claim:
    held = claim(sessions, appetite=Appetite(items=32))
    assert held is not None
    return held


def mark(sessions: Sessions, job_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        cancel(session, TENANT, job_id)


def let_a_minute_pass(sessions: Sessions) -> None:
    change(
        sessions,
        """UPDATE jobs SET start_by = start_by - interval '61 seconds',
                           run_until = run_until - interval '61 seconds'""",
    )


def code(job: Job) -> str | None:
    return None if job.error is None else job.error["code"]


def clock(sessions: Sessions) -> float:
    return float(scalar(sessions, "SELECT clock FROM flows"))


def test_a_job_that_nobody_begins_in_time_expires_and_costs_nothing(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, terms=SOON)
    assert do(sessions, deadlines.expire_unstarted) == 0
    let_a_minute_pass(sessions)
    assert do_all(sessions, deadlines.expire_unstarted) == 1
    job = read(sessions, job_id)
    assert (job.state, job.dropped, job.started_at, code(job)) == (
        JobState.EXPIRED,
        100,
        None,
        "start-deadline",
    )
    assert job.ended_at is not None
    assert clock(sessions) == pytest.approx(0)
    assert scalar(sessions, "SELECT count(*) FROM results") == 0
    assert_settled(sessions)


def test_a_job_that_began_in_time_is_left_alone(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, terms=SOON)
    held = take(sessions)
    let_a_minute_pass(sessions)
    assert do(sessions, deadlines.expire_unstarted) == 0
    with sessions.begin() as session:
        leases.release(session, held.token, "not now", counts=False)
    assert do(sessions, deadlines.expire_unstarted) == 0
    assert read(sessions, job_id).dropped == 0


def test_a_job_whose_claim_could_not_mark_it_has_begun_all_the_same(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, terms=SOON)
    with sessions.begin() as other:
        other.execute(text("SELECT 1 FROM jobs FOR NO KEY UPDATE"))
        held = take(sessions)
    assert read(sessions, job_id).state == JobState.QUEUED
    let_a_minute_pass(sessions)
    assert do(sessions, deadlines.expire_unstarted) == 0
    assert complete(sessions, held)
    assert read(sessions, job_id).state == JobState.RUNNING


def test_a_job_without_terms_waits_for_ever(sessions: Sessions) -> None:
    submit_texts(sessions)
    assert do(sessions, deadlines.expire_unstarted) == do(sessions, deadlines.stop_overdue) == 0


def test_a_job_that_runs_for_too_long_keeps_what_is_done_and_what_is_held(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, terms=SHORT)
    assert complete(sessions, take(sessions))
    held = take(sessions)
    let_a_minute_pass(sessions)
    assert do_all(sessions, deadlines.stop_overdue) == 1
    job = read(sessions, job_id)
    assert job.state == JobState.RUNNING
    with sessions.begin() as session:
        assert leases.renew(session, held.token) is Renewal.RENEWED
    assert complete(sessions, held)
    ended = read(sessions, job_id)
    assert (ended.state, code(ended)) == (JobState.PARTIAL, "run-timeout")
    assert ended.succeeded == 2 * held.size
    assert ended.dropped == 100 - ended.succeeded
    assert_settled(sessions)


def test_a_job_that_runs_for_too_long_without_a_result_has_failed(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, terms=SHORT)
    held = take(sessions)
    with sessions.begin() as session:
        leases.release(session, held.token, "out of memory")
    let_a_minute_pass(sessions)
    do_all(sessions, deadlines.stop_overdue)
    job = read(sessions, job_id)
    assert (job.state, code(job), job.dropped) == (JobState.FAILED, "run-timeout", 100)
    assert_settled(sessions)


def test_what_was_lost_after_the_deadline_is_dropped_when_it_comes_back(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 20, terms=SHORT, priority=BULK)
    held = take(sessions)
    let_a_minute_pass(sessions)
    do_all(sessions, deadlines.stop_overdue)
    with sessions.begin() as session:
        leases.release(session, held.token, "told to end", counts=False)
    assert do_all(sessions, deadlines.stop_overdue) == 1
    assert read(sessions, job_id).state == JobState.FAILED
    assert_settled(sessions)


def test_a_queued_job_is_cancelled_at_once(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    cancel_job(sessions, job_id)
    job = read(sessions, job_id)
    assert (job.state, job.dropped, job.error) == (JobState.CANCELLED, 100, None)
    assert clock(sessions) == pytest.approx(0)
    assert_settled(sessions)


def test_a_running_job_ends_when_its_worker_lets_go(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    held = take(sessions)
    cancel_job(sessions, job_id)
    assert read(sessions, job_id).state == JobState.CANCELLING
    with sessions.begin() as session:
        assert leases.renew(session, held.token) is Renewal.UNWANTED
        assert leases.release(session, held.token, "unwanted", counts=False)
    assert do_all(sessions, deadlines.continue_cancels) == 1
    job = read(sessions, job_id)
    assert (job.state, job.dropped) == (JobState.CANCELLED, 100)
    assert scalar(sessions, "SELECT count(*) FROM results") == 0
    assert_settled(sessions)


def test_what_was_done_of_a_cancelled_job_is_kept(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    done, held = take(sessions), take(sessions)
    complete(sessions, done)
    cancel_job(sessions, job_id)
    assert complete(sessions, held)
    job = read(sessions, job_id)
    assert (job.state, job.succeeded) == (JobState.CANCELLED, done.size + held.size)
    assert_settled(sessions)


def test_a_batch_of_which_one_job_is_wanted_goes_on(sessions: Sessions) -> None:
    unwanted, wanted = submit_texts(sessions), submit_texts(sessions)
    held = take(sessions)
    cancel_job(sessions, unwanted)
    with sessions.begin() as session:
        assert leases.renew(session, held.token) is Renewal.RENEWED
    assert complete(sessions, held)
    assert read(sessions, unwanted).state == JobState.CANCELLED
    assert read(sessions, wanted).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_a_cancelled_job_does_not_say_why_an_item_failed_once_another_succeeded(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 60, priority=BULK)
    first, second = take(sessions), take(sessions)
    complete(sessions, first, failing=range(60))
    cancel_job(sessions, job_id)
    complete(sessions, second)
    job = read(sessions, job_id)
    assert (job.state, job.error) == (JobState.CANCELLED, None)


def test_cancelling_twice_is_the_same_as_once(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 40, priority=BULK)
    held = take(sessions)
    cancel_job(sessions, job_id)
    cancel_job(sessions, job_id)
    complete(sessions, held)
    cancel_job(sessions, job_id)
    assert read(sessions, job_id).state == JobState.CANCELLED
    assert_settled(sessions)


def test_what_has_ended_otherwise_cannot_be_cancelled(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    complete(sessions, take(sessions))
    with pytest.raises(AlreadyEndedError, match="it succeeded"), sessions.begin() as session:
        cancel(session, TENANT, job_id)
    assert read(sessions, job_id).state == JobState.SUCCEEDED


def test_another_tenants_job_is_as_unknown_as_none(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    for asked in (job_id, uuid.uuid4()):
        with pytest.raises(NotFoundError), sessions.begin() as session:
            cancel(session, "another", asked)
    assert read(sessions, job_id).state == JobState.QUEUED


def test_a_huge_job_is_dropped_in_slices(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    # units are what counts: their number is that of a job of millions
    change(
        sessions,
        """INSERT INTO work (job_id, unit, model, items) SELECT :job_id, n, :model, 1
           FROM generate_series(1000, 11999) AS n""",
        job_id=job_id,
        model=MODEL,
    )
    change(sessions, "UPDATE jobs SET total = total + 11000")
    units = scalar(sessions, "SELECT count(*) FROM work")
    mark(sessions, job_id)
    left = []
    while do(sessions, deadlines.continue_cancels):
        left.append(scalar(sessions, "SELECT count(*) FROM work"))
    assert left == [units - DROPPED_AT_ONCE, units - 2 * DROPPED_AT_ONCE, 0]
    assert read(sessions, job_id).state == JobState.CANCELLED
    assert_settled(sessions)


def test_jobs_that_wait_for_their_workers_do_not_hide_those_that_can_be_dropped(sessions: Sessions) -> None:
    for _ in range(deadlines.JOBS_AT_ONCE):
        held = submit_texts(sessions)
        take(sessions)
        mark(sessions, held)
    last = submit_texts(sessions)
    mark(sessions, last)
    assert do(sessions, deadlines.continue_cancels) == 1
    assert read(sessions, last).state == JobState.CANCELLED


def test_a_deadline_does_not_speak_of_a_job_that_its_owner_cancelled(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 40, terms=SHORT, priority=BULK)
    held = take(sessions)
    mark(sessions, job_id)
    let_a_minute_pass(sessions)
    assert do(sessions, deadlines.stop_overdue) == 0
    do_all(sessions, deadlines.continue_cancels)
    complete(sessions, held)
    job = read(sessions, job_id)
    assert (job.state, job.error) == (JobState.CANCELLED, None)


def test_two_duties_that_pay_back_to_the_same_flows_do_not_wait_in_a_circle(sessions: Sessions) -> None:
    one = [submit_texts(sessions, tenant=tenant) for tenant in ("a", "b")]
    other = [submit_texts(sessions, tenant=tenant, terms=SOON) for tenant in ("b", "a")]
    let_a_minute_pass(sessions)
    for job_id, tenant in zip(one, ("a", "b"), strict=True):
        with sessions.begin() as session:
            cancel(session, tenant, job_id)
    with ThreadPoolExecutor(2) as pool:
        with sessions.begin() as holder:
            holder.execute(text("SELECT 1 FROM flows WHERE tenant = 'a' FOR UPDATE"))
            first = in_thread(pool, sessions, lambda: do(sessions, deadlines.continue_cancels))
            second = pool.submit(do, sessions, deadlines.expire_unstarted)
        assert (first.result(timeout=10), second.result(timeout=10)) == (2, 2)
    ended = [read(sessions, job_id).state for job_id in one + other]
    assert ended == [JobState.CANCELLED] * 2 + [JobState.EXPIRED] * 2


def test_a_cancel_that_comes_before_the_complete_wins(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    held = take(sessions)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            cancel(first, TENANT, job_id)
            late = in_thread(pool, sessions, lambda: complete(sessions, held))
        assert late.result(timeout=10)
    assert read(sessions, job_id).state == JobState.CANCELLED
    assert_settled(sessions)


def test_a_complete_that_comes_before_the_cancel_wins(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    held = take(sessions)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            leases.complete(first, held.token, results_of(held))
            late = in_thread(pool, sessions, lambda: mark(sessions, job_id))
        with pytest.raises(AlreadyEndedError):
            late.result(timeout=10)
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_a_drop_passes_over_what_is_being_claimed(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 40, priority=BULK)
    mark(sessions, job_id)
    with sessions.begin() as claiming:
        claiming.execute(text("SELECT 1 FROM work WHERE unit = 0 FOR UPDATE"))
        with sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '500ms'"))
            assert drop_work(session, job_id) is not None
    assert scalar(sessions, "SELECT array_agg(unit) FROM work") == [0]
    assert do(sessions, deadlines.continue_cancels) == 1
    assert_settled(sessions)


def test_the_flow_is_paid_back_for_what_was_dropped_and_no_more(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100, priority=BULK)
    cost = read(sessions, job_id).cost
    held = take(sessions)
    complete(sessions, held)
    cancel_job(sessions, job_id)
    assert clock(sessions) == pytest.approx(held.cost)
    assert held.cost < cost


def test_a_claim_does_not_wait_for_a_cancel(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    with sessions.begin() as first:
        cancel(first, TENANT, job_id)
        held = take(sessions)
    assert read(sessions, job_id).state == JobState.CANCELLING
    with sessions.begin() as session:
        assert leases.renew(session, held.token) is Renewal.UNWANTED
    assert complete(sessions, held)
    assert read(sessions, job_id).state == JobState.CANCELLED
    assert_settled(sessions)


def test_a_cancel_waits_for_a_claim_and_leaves_it_what_it_took(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 40, priority=BULK)
    holder = Holder(WORKER, timedelta(seconds=30), timedelta(seconds=60))
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            held = leases.claim(first, MODEL, holder)
            late = in_thread(pool, sessions, lambda: cancel_job(sessions, job_id))
        late.result(timeout=10)
    assert held is not None
    assert complete(sessions, held)
    job = read(sessions, job_id)
    assert (job.state, job.succeeded, job.dropped) == (JobState.CANCELLED, held.size, 40 - held.size)
    assert_settled(sessions)
