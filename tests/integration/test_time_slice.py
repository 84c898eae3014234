"""Whose turn it is while a large unit runs, told by the forward passes of a worker."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.leases import Appetite
from jobs.submission import ImageItem, Submission
from models.types import JobType, Priority
from models.work import Work
from tests.ledger import (
    MODEL,
    TENANT,
    admit_and_submit,
    assert_settled,
    claim,
    complete,
    scalar,
    submit_texts,
)
from tests.runtimes import FailingEngine, runtime_of
from worker import time_slice
from worker.canary import CanaryFailedError
from worker.decode_pool import DecodePool
from worker.heartbeat import Heartbeat
from worker.runtime import open_decoders

Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks between all passes: these take no time."""
    monkeypatch.setattr(time_slice, "LOOK_SECONDS", 0.0)


def once(do: Callable[[], object]) -> Callable[[], object]:
    """Does it at the first call only."""
    left = [do]
    return lambda: left.pop()() if left else None


def passes(engine: FailingEngine) -> list[int]:
    return [len(texts) for texts in engine.batches]


def change_singles(sessions: Sessions, column: str, value: object) -> None:
    with sessions.begin() as session:
        session.execute(update(Work).where(Work.items == 1).values({column: value}))


def test_single_items_go_between_the_passes_of_a_unit(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine()
    engine.before = once(lambda: (submit_texts(sessions), submit_texts(sessions)))
    assert not time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    assert passes(engine) == [3, 2, 3, 3]
    assert_settled(sessions)


def test_no_turn_is_skipped_for_a_single_item(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    for _ in range(3):
        submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine()

    def come_late() -> None:
        submit_texts(sessions)
        change_singles(sessions, "vtime", scalar(sessions, "SELECT max(vtime) + 1 FROM work"))

    engine.before = once(come_late)
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    assert passes(engine) == [3, 3, 3, 3, 3, 3, 1, 3, 3, 3]
    assert_settled(sessions)


@pytest.mark.parametrize(("column", "value"), [("strikes", 1), ("losses", 2)])
def test_what_may_end_the_worker_waits_until_nothing_else_is_held(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat, column: str, value: int
) -> None:
    submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine()

    def come_suspected() -> None:
        submit_texts(sessions)
        change_singles(sessions, column, value)

    engine.before = once(come_suspected)
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    assert passes(engine) == [3, 3, 3, 1]
    assert_settled(sessions)


@pytest.mark.parametrize(("column", "value"), [("strikes", 1), ("losses", 2)])
def test_beside_other_work_nothing_suspected_is_claimed_nor_passed_over(
    sessions: Sessions, column: str, value: int
) -> None:
    submit_texts(sessions)
    change_singles(sessions, column, value)
    submit_texts(sessions)
    assert claim(sessions, appetite=Appetite(beside=True)) is None
    suspected = claim(sessions)
    assert suspected is not None
    assert not suspected.sociable
    assert complete(sessions, suspected)
    innocent = claim(sessions, appetite=Appetite(beside=True))
    assert innocent is not None
    assert innocent.sociable


def test_a_stream_of_single_items_does_not_stop_a_unit(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine()
    engine.before = lambda: submit_texts(sessions) if len(engine.batches) < 20 else None
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    # after each pass of the unit one of theirs
    assert passes(engine)[0:6:2] == [3, 3, 3]
    assert_settled(sessions)


def test_a_worker_found_unfit_between_passes_costs_the_unit_nothing_and_ends(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine()

    def fall_sick() -> None:
        submit_texts(sessions)
        engine.sick = True

    engine.before = once(fall_sick)
    with pytest.raises(CanaryFailedError):
        time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    assert scalar(sessions, "SELECT count(*) FROM leases") == 0
    assert scalar(sessions, "SELECT losses FROM work WHERE items > 1") == 0


def test_a_fault_between_passes_costs_the_unit_nothing(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 9, tenant="bulk", priority=Priority.BULK)
    engine = FailingEngine(MemoryError(), times=0)

    def fail_next() -> None:
        submit_texts(sessions)
        engine.before = once(lambda: setattr(engine, "times", 1))

    engine.before = once(fail_next)
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=3))
    assert scalar(sessions, "SELECT succeeded FROM jobs WHERE tenant = 'bulk'") == 9
    assert scalar(sessions, "SELECT losses FROM work") == 1


def test_urgent_pictures_are_decoded_before_those_that_wait(picture: bytes) -> None:
    with DecodePool(48, 3, processes=1, seconds_per_picture=60, memory_bytes=1 << 30) as pool:
        begun, released, order = threading.Event(), threading.Event(), []

        def load(name: str, *, wait: bool = False) -> Callable[[], bytes]:
            def read() -> bytes:
                if wait:
                    begun.set()
                    released.wait(30)
                order.append(name)
                return picture

            return read

        usual: Any = pool.submit([load("first", wait=True), load("usual"), load("usual"), load("usual")])
        assert begun.wait(30)
        urgent = pool.submit([load("urgent"), load("urgent")], urgent=True)
        assert not urgent.wait(0)
        released.set()
        urgent.result()
        usual.result()
    assert order == ["first", "urgent", "urgent", "usual", "usual", "usual"]


def test_what_was_claimed_ahead_is_put_back_by_a_worker_that_ends(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat, picture: bytes
) -> None:
    stored = Content(blobs.put(TENANT, picture), len(picture), "image/jpeg")
    for _ in range(2):
        wanted = Submission(JobType.EMBEDDING, MODEL, [ImageItem(stored)], {"normalize": True})
        admit_and_submit(sessions, wanted)
    engine = FailingEngine()
    # else the next beat would say that it need not end
    heartbeat.stop()
    engine.before = lambda: setattr(heartbeat, "ending", True)
    runtime = runtime_of(engine, sessions, blobs, heartbeat, batch_items=1)
    with open_decoders(runtime.settings, {"image_size": 8, "resample": "bicubic"}) as decoders:
        assert time_slice.run_slice(replace(runtime, decoders=decoders))
    assert scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome = 'completed'") == 1
    assert scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome = 'released'") == 1
    # it was not even tried: it waits at once, and nothing counts against it
    assert scalar(sessions, "SELECT losses FROM work WHERE lease_token IS NULL AND run_at <= now()") == 0


def test_a_worker_that_fails_at_its_canary_gives_the_work_back_and_stops(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 2, priority=Priority.BULK)
    engine = FailingEngine()
    engine.sick = True
    with pytest.raises(CanaryFailedError, match="an illegal memory access"):
        time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert scalar(sessions, "SELECT count(*) FROM leases") == 0
    assert scalar(sessions, "SELECT count(*) FROM work") == 1
    assert scalar(sessions, "SELECT count(*) FROM results") == 0
