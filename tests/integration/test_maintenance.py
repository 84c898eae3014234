"""The duties as they are run: alone, one process at a time, none in another's way."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import maintenance, queries
from jobs.acting import Actor
from jobs.admission import Quota
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.maintenance import (
    Duty,
    acting,
    expiring,
    invite_workers,
    keep,
    recording,
    recovering,
    run_alone,
    run_out,
    tidying,
)
from jobs.submission import Terms
from jobs.text_cache import TextBudget
from models.types import JobState, Priority
from tests.faults import cancel_job, change, do
from tests.ledger import MODEL, claim, read, scalar, submit_texts

Sessions = sessionmaker[Session]


@pytest.fixture
def inviter(broker_url: str) -> Iterator[Inviter]:
    made = Inviter(broker_url)
    yield made
    made.close()


@contextmanager
def kept(sessions: Sessions, *duties: Duty) -> Iterator[threading.Event]:
    """The loop in a thread, told to stop at the end and seen to end."""
    stop = threading.Event()
    thread = threading.Thread(target=keep, args=(sessions, duties, 0.01, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=10)
    assert not thread.is_alive()


def until(done: threading.Event) -> None:
    assert done.wait(timeout=10)


def actor(sessions: Sessions, inviter: Inviter) -> Actor:
    return Actor(sessions, Catalog(), Quota(), lambda: 0, inviter)


def test_a_duty_may_be_given_more_time_than_the_others(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TRANSACTION_SECONDS", 1)

    def sleep(session: Session) -> int:
        session.execute(text("SELECT pg_sleep(1.5)"))
        return 1

    assert do(sessions, lambda session: run_alone(session, 1, sleep, 60)) == 1
    with pytest.raises(DBAPIError):
        do(sessions, lambda session: run_alone(session, 1, sleep))


def test_no_two_duties_share_a_lock(sessions: Sessions, inviter: Inviter, blobs: BlobStore) -> None:
    duties = recovering(inviter) + tidying(blobs, TextBudget()) + acting(actor(sessions, inviter))
    duties += recording(timedelta(days=30))
    locks = [duty.lock for duty in duties]
    assert len(locks) == len(set(locks))


def test_every_duty_finds_nothing_in_an_empty_ledger(
    sessions: Sessions, inviter: Inviter, blobs: BlobStore
) -> None:
    duties = (
        expiring() + recovering(inviter) + tidying(blobs, TextBudget()) + acting(actor(sessions, inviter))
    )
    duties += recording(timedelta(days=30))
    for duty in duties:
        with sessions.begin() as session:
            assert run_alone(session, duty.lock, duty.run) == 0


def test_a_duty_is_done_by_one_process_at_a_time_and_the_others_are_free(sessions: Sessions) -> None:
    with sessions.begin() as mine:
        assert run_alone(mine, 1, lambda _: 1) == 1
        assert do(sessions, lambda session: run_alone(session, 1, lambda _: 1)) == 0
        assert do(sessions, lambda session: run_alone(session, 2, lambda _: 1)) == 1
    assert do(sessions, lambda session: run_alone(session, 1, lambda _: 1)) == 1


def test_a_leader_that_freezes_holds_nothing_for_long(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TRANSACTION_SECONDS", 1)
    job_id = submit_texts(sessions)
    frozen = sessions()
    run_alone(frozen, 1, lambda session: len(session.execute(text("SELECT 1 FROM jobs FOR UPDATE")).all()))
    assert do(sessions, lambda session: run_alone(session, 1, lambda _: 1)) == 0
    time.sleep(1.5)
    assert do(sessions, lambda session: run_alone(session, 1, lambda _: 1)) == 1
    change(sessions, "SET LOCAL lock_timeout = '100ms'; UPDATE jobs SET priority = 'bulk'")
    assert read(sessions, job_id).priority == Priority.BULK
    with pytest.raises(DBAPIError, match="transaction timeout"):
        frozen.execute(text("SELECT 1"))
    frozen.invalidate()


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT pg_terminate_backend(pg_backend_pid())", None])
def test_a_duty_that_raises_does_not_end_the_others(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, statement: str | None
) -> None:
    monkeypatch.setattr(maintenance, "DATABASE_AWAY_SECONDS", 0.01)
    twice, done = [], threading.Event()

    def fail(session: Session) -> int:
        if statement is None:
            raise ZeroDivisionError
        session.execute(text(statement))
        return 0

    def succeed(session: Session) -> int:
        twice.append(session.scalar(text("SELECT 1")))
        if len(twice) == 2:
            done.set()
        return 0

    with kept(sessions, Duty(100, fail), Duty(101, succeed)):
        until(done)


def test_a_duty_with_more_and_more_to_do_leaves_the_next_one_its_turn(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "TURN_SECONDS", 0.1)
    done = threading.Event()

    def succeed(session: Session) -> int:
        done.set()
        return 0

    with kept(sessions, Duty(100, lambda _: 1), Duty(101, succeed)):
        until(done)


def test_a_duty_that_is_told_to_stop_stops(sessions: Sessions) -> None:
    stop = threading.Event()

    def stop_after_one(session: Session) -> int:
        assert not stop.is_set()
        stop.set()
        return 1

    run_out(sessions, Duty(100, stop_after_one), stop)
    assert stop.is_set()


def test_the_loops_bring_a_ledger_forward_and_end_when_told(
    sessions: Sessions, inviter: Inviter, blobs: BlobStore
) -> None:
    lost, cancelled = submit_texts(sessions), submit_texts(sessions, 100)
    claim(sessions)
    change(sessions, "UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'")
    change(sessions, "UPDATE jobs SET state = 'cancelling' WHERE id = :job_id", job_id=cancelled)
    with (
        kept(sessions, *expiring()),
        kept(sessions, *recovering(inviter)),
        kept(sessions, *tidying(blobs, TextBudget())),
    ):
        ends = time.monotonic() + 10
        while time.monotonic() < ends and read(sessions, cancelled).state != JobState.CANCELLED:
            time.sleep(0.05)
    assert read(sessions, cancelled).state == JobState.CANCELLED
    assert scalar(sessions, "SELECT losses FROM work WHERE job_id = :job_id", job_id=lost) == 1


def test_workers_are_invited_where_work_waits_and_nobody_was_told(
    sessions: Sessions, inviter: Inviter
) -> None:
    assert do(sessions, lambda session: invite_workers(session, inviter)) == 0
    job_id = submit_texts(sessions)
    assert do(sessions, lambda session: invite_workers(session, inviter)) == 1
    ends = time.monotonic() + 10
    while time.monotonic() < ends and not inviter.waiting(MODEL):
        time.sleep(0.02)
    # the queue holds an invitation by now: one is enough until somebody takes it
    assert do(sessions, lambda session: invite_workers(session, inviter)) == 0
    cancel_job(sessions, job_id)


def test_nobody_is_invited_to_work_that_is_held_or_delayed(sessions: Sessions, inviter: Inviter) -> None:
    submit_texts(sessions)
    assert claim(sessions) is not None
    submit_texts(sessions, terms=Terms())
    change(sessions, "UPDATE work SET run_at = now() + interval '1 hour' WHERE lease_token IS NULL")
    with sessions() as session:
        assert session.execute(queries.waiting_models(limit=16)).all() == []
