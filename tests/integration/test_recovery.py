"""Work that comes back: from workers that crash, that are lost, and that only seem to be."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import leases, recovery
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.leases import Appetite, Claim, Renewal
from jobs.submission import ImageItem, Submission
from models.types import JobState, JobType, Priority
from tests.faults import change, do, do_all, in_thread, judge, let_leases_run_out, report_crash, together
from tests.ledger import (
    MODEL,
    TENANT,
    WORKER,
    admit_and_submit,
    assert_settled,
    claim,
    complete,
    read,
    results_of,
    scalar,
    submit_texts,
)

Sessions = sessionmaker[Session]
OTHER, THIRD = uuid.UUID(int=2), uuid.UUID(int=3)
MANY = Appetite(items=32)


def take(sessions: Sessions, worker_id: uuid.UUID = WORKER) -> Claim:
    held = claim(sessions, worker_id=worker_id, appetite=MANY)
    assert held is not None
    return held


def crash(sessions: Sessions, worker_id: uuid.UUID = WORKER, *, guilty: bool = True) -> None:
    """The child of a worker dies of what it holds, and the canary speaks."""
    assert report_crash(sessions, worker_id) == 1
    judge(sessions, worker_id, guilty=guilty)


def renew(sessions: Sessions, held: Claim) -> Renewal:
    with sessions.begin() as session:
        return leases.renew(session, held.token)


def indexes(held: Claim) -> list[int]:
    return [item["index"] for unit in held.units for item in unit.items]


def drain(sessions: Sessions, *, deadly: tuple[uuid.UUID, int] | None = None) -> int:
    """Work on everything; one item, when it is among what is held, ends the worker. How often it did."""
    crashes = 0
    do_all(sessions, recovery.judge_struck)
    while (held := claim(sessions, appetite=MANY)) is not None:
        if deadly in {(unit.job_id, item["index"]) for unit in held.units for item in unit.items}:
            crash(sessions)
            crashes += 1
        else:
            assert complete(sessions, held)
        do_all(sessions, recovery.judge_struck)
    return crashes


def test_what_a_crashed_worker_held_waits_again_at_once(sessions: Sessions) -> None:
    submit_texts(sessions, 2, priority=Priority.BULK)
    first = take(sessions)
    assert report_crash(sessions) == 1
    assert renew(sessions, first) is Renewal.LOST
    again = take(sessions, OTHER)
    assert (indexes(again), again.units[0].attempt) == (indexes(first), 2)
    assert not complete(sessions, first)
    assert complete(sessions, again)
    assert_settled(sessions)


def test_a_crash_of_one_worker_leaves_the_others_leases_alone(sessions: Sessions) -> None:
    submit_texts(sessions)
    held = take(sessions, OTHER)
    assert report_crash(sessions, WORKER) == 0
    assert renew(sessions, held) is Renewal.RENEWED


def test_nobody_is_blamed_before_the_canary_has_spoken_nor_after_it_failed(sessions: Sessions) -> None:
    submit_texts(sessions)
    take(sessions)
    report_crash(sessions)
    assert scalar(sessions, "SELECT strikes FROM work") == 0
    assert scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome = 'crashed' AND NOT judged") == 1
    judge(sessions, guilty=False)
    assert scalar(sessions, "SELECT strikes FROM work") == 0
    judge(sessions, guilty=True)
    assert scalar(sessions, "SELECT strikes FROM work") == 0, "a crash is judged once"


def test_a_guilty_canary_strikes_what_its_own_worker_held(sessions: Sessions) -> None:
    mine = submit_texts(sessions, options={"normalize": True})
    submit_texts(sessions, options={"normalize": False})
    take(sessions)
    take(sessions, OTHER)
    report_crash(sessions)
    report_crash(sessions, OTHER)
    judge(sessions, WORKER)
    judge(sessions, OTHER, guilty=False)
    assert scalar(sessions, "SELECT job_id FROM work WHERE strikes = 1") == mine
    assert scalar(sessions, "SELECT sum(strikes) FROM work") == 1


def test_what_was_struck_is_claimed_alone(sessions: Sessions) -> None:
    for _ in range(3):
        submit_texts(sessions)
    assert take(sessions).size == 3
    crash(sessions)
    assert [take(sessions).size for _ in range(3)] == [1, 1, 1]


def test_a_struck_unit_is_taken_apart_and_its_items_keep_their_places(
    sessions: Sessions, blobs: BlobStore
) -> None:
    contents = [Content(blobs.put(TENANT, name), len(name)) for name in (b"one", b"two", b"three")]
    items = [ImageItem(source, custom_id=source.sha256) for source in contents]
    wanted = Submission(JobType.EMBEDDING, MODEL, items, {"normalize": True}, Priority.BULK)
    job_id = admit_and_submit(sessions, wanted)
    whole = take(sessions)
    assert whole.size == 3
    before = {item["index"]: item for item in whole.units[0].items}
    crash(sessions)
    assert do(sessions, recovery.judge_struck) == 1
    singles = [take(sessions) for _ in range(3)]
    assert [single.size for single in singles] == [1, 1, 1]
    assert {item["index"]: item for held in singles for item in held.units[0].items} == before
    assert len({held.units[0].unit for held in singles} | {whole.units[0].unit}) == 4
    assert sum(held.cost for held in singles) == whole.cost
    named = """SELECT count(*) FROM job_inputs
               WHERE image_ids = ARRAY[(items -> 0 ->> 'image_id')::uuid] AND job_id = :job_id"""
    assert scalar(sessions, named, job_id=job_id) == 3
    for held in singles:
        assert complete(sessions, held)
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_an_item_that_ends_three_healthy_workers_fails_and_no_other_with_it(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 100)
    assert drain(sessions, deadly=(job_id, 41)) == recovery.MAX_STRIKES
    job = read(sessions, job_id)
    assert (job.state, job.succeeded, job.failed) == (JobState.PARTIAL, 99, 1)
    failed = "SELECT error ->> 'code' FROM results WHERE index = 41 AND state = 'failed'"
    assert scalar(sessions, failed) == "worker-crashed"
    assert_settled(sessions)


def test_work_that_struck_is_not_claimed_before_it_is_parted_or_failed(sessions: Sessions) -> None:
    submit_texts(sessions, 2, priority=Priority.BULK)
    take(sessions)
    crash(sessions)
    assert claim(sessions) is None
    assert do_all(sessions, recovery.judge_struck) == 1
    while (held := claim(sessions)) is not None:
        assert held.size == 1
        crash(sessions)
    assert do_all(sessions, recovery.judge_struck) == 1
    assert_settled(sessions)


def test_a_deadly_single_item_fails_and_no_job_of_its_batch(sessions: Sessions) -> None:
    job_ids = [submit_texts(sessions) for _ in range(8)]
    assert drain(sessions, deadly=(job_ids[3], 0)) == recovery.MAX_STRIKES
    states = [read(sessions, job_id).state for job_id in job_ids]
    assert states == [JobState.FAILED if index == 3 else JobState.SUCCEEDED for index in range(8)]
    assert_settled(sessions)


def test_a_unit_that_ends_three_workers_before_any_canary_speaks_is_tried_one_by_one(
    sessions: Sessions,
) -> None:
    job_id = submit_texts(sessions, 4, priority=Priority.BULK)
    for worker_id in (WORKER, OTHER, THIRD):
        assert take(sessions, worker_id).size == 4
        report_crash(sessions, worker_id)
    for worker_id in (WORKER, OTHER, THIRD):
        judge(sessions, worker_id)
    drain(sessions, deadly=(job_id, 2))
    job = read(sessions, job_id)
    assert (job.succeeded, job.failed) == (3, 1)
    assert_settled(sessions)


def test_a_batch_that_ends_three_workers_before_any_canary_speaks_is_tried_one_by_one(
    sessions: Sessions,
) -> None:
    job_ids = [submit_texts(sessions) for _ in range(4)]
    for worker_id in (WORKER, OTHER, THIRD):
        # all at the same time: the second and the third find it before it is to be claimed alone
        change(sessions, "UPDATE work SET losses = 0")
        assert take(sessions, worker_id).size == 4
        report_crash(sessions, worker_id)
    for worker_id in (WORKER, OTHER, THIRD):
        judge(sessions, worker_id)
    drain(sessions, deadly=(job_ids[0], 0))
    states = [read(sessions, job_id).state for job_id in job_ids]
    assert states == [JobState.FAILED, *[JobState.SUCCEEDED] * 3]
    assert_settled(sessions)


def test_a_sick_worker_beside_a_good_one_fails_nothing(sessions: Sessions) -> None:
    job_ids = [submit_texts(sessions) for _ in range(3)]
    for _ in range(recovery.MAX_STRIKES + 2):
        take(sessions, OTHER)
        crash(sessions, OTHER, guilty=False)
    assert do(sessions, recovery.judge_struck) == 0
    drain(sessions)
    assert {read(sessions, job_id).state for job_id in job_ids} == {JobState.SUCCEEDED}


def test_a_crash_report_waits_for_what_the_dead_child_left_locked(sessions: Sessions) -> None:
    submit_texts(sessions)
    take(sessions)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as dying:
            dying.execute(text("SELECT 1 FROM leases FOR UPDATE"))
            report = in_thread(pool, sessions, lambda: report_crash(sessions))
        assert report.result(timeout=10) == 1


def test_work_that_is_lost_for_good_fails_alone_of_its_job(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 40, priority=Priority.BULK)
    change(sessions, "UPDATE work SET losses = :most WHERE unit = 1", most=recovery.MAX_LOSSES)
    assert do(sessions, recovery.fail_hopeless) == 1
    assert read(sessions, job_id).state == JobState.RUNNING
    drain(sessions)
    job = read(sessions, job_id)
    assert (job.state, job.succeeded + job.failed, job.error) == (JobState.PARTIAL, 40, None)
    assert job.failed > 0
    assert (
        scalar(sessions, "SELECT DISTINCT error ->> 'code' FROM results WHERE state = 'failed'")
        == "worker-lost"
    )
    assert_settled(sessions)


def test_hopeless_work_that_is_leased_may_still_succeed(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    change(sessions, "UPDATE work SET losses = :most", most=recovery.MAX_LOSSES)
    held = take(sessions)
    assert do(sessions, recovery.fail_hopeless) == 0
    assert complete(sessions, held)
    assert read(sessions, job_id).state == JobState.SUCCEEDED


def test_a_lease_that_ran_out_is_a_loss_and_no_strike(sessions: Sessions) -> None:
    submit_texts(sessions)
    take(sessions)
    assert let_leases_run_out(sessions) == 1
    assert (scalar(sessions, "SELECT losses FROM work"), scalar(sessions, "SELECT strikes FROM work")) == (
        1,
        0,
    )
    judge(sessions)
    assert scalar(sessions, "SELECT strikes FROM work") == 0


def test_a_renewed_lease_still_ends_at_its_hard_limit(sessions: Sessions) -> None:
    submit_texts(sessions)
    held = take(sessions)
    change(sessions, "UPDATE leases SET hard_until = now() - interval '1 second', ttl = interval '0'")
    assert do(sessions, recovery.expire_leases) == 1
    assert renew(sessions, held) is Renewal.LOST


def test_a_complete_that_comes_while_its_lease_expires_changes_nothing(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    held = take(sessions)
    change(sessions, "UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'")
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            assert recovery.expire_leases(first) == 1
            late = in_thread(pool, sessions, lambda: complete(sessions, held))
        assert late.result(timeout=10) is False
    assert read(sessions, job_id).succeeded == 0
    drain(sessions)
    assert_settled(sessions)


def test_a_lease_that_is_being_completed_does_not_expire(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    held = take(sessions)
    change(sessions, "UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'")
    with sessions.begin() as first:
        assert leases.complete(first, held.token, results_of(held))
        assert do(sessions, recovery.expire_leases) == 0
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_two_workers_that_crash_at_the_same_time_lose_each_their_own(sessions: Sessions) -> None:
    for _ in range(2):
        submit_texts(sessions, 2, priority=Priority.BULK)
    take(sessions, WORKER)
    take(sessions, OTHER)
    together(lambda: crash(sessions, WORKER), lambda: crash(sessions, OTHER))
    assert scalar(sessions, "SELECT array_agg(strikes) FROM work") == [1, 1]
    drain(sessions)
    assert_settled(sessions)


def test_after_the_database_was_away_holders_have_one_lifetime_more(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiry = recovery.Expiry()
    submit_texts(sessions)
    claim(sessions, ttl_seconds=1)
    assert do(sessions, expiry) == 0
    change(sessions, "UPDATE leases SET until = now() - interval '1 second'")
    with monkeypatch.context() as patched:
        patched.setattr(recovery, "MAX_GAP", timedelta(0))
        assert do(sessions, expiry) == 0
    assert do(sessions, expiry) == 0
    time.sleep(1.1)
    assert do(sessions, expiry) == 1


def test_a_lease_from_before_the_clock_was_set_back_is_over_too(sessions: Sessions) -> None:
    submit_texts(sessions)
    claim(sessions, ttl_seconds=1)
    change(sessions, "UPDATE leases SET until = now() + interval '1 hour', ttl = interval '0'")
    assert do(sessions, recovery.expire_leases) == 1


def test_a_lease_that_was_renewed_after_recovery_had_begun_is_kept(sessions: Sessions) -> None:
    submit_texts(sessions)
    claim(sessions)
    with sessions.begin() as recovering:
        recovering.execute(text("SELECT now()"))
        # as a renewal does, with a lifetime of nothing: Postgres has been there for that long
        change(sessions, "UPDATE leases SET until = now(), ttl = interval '0'")
        assert recovery.expire_leases(recovering) == 0
