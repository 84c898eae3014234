"""What a worker learns of its own speed and room."""

import time

import pytest

from worker.memory import own_memory
from worker.pace import FILL_MINUTES, MIN_STALL_SECONDS, Fill, Pace, Room


def test_the_rate_is_that_of_the_costly_claims() -> None:
    pace = Pace()
    assert pace.seconds_per_gflop is None
    for _ in range(10):
        pace.learn(1.0, 1.0)
    for _ in range(3):
        pace.learn(2.0, 200.0)
    assert pace.seconds_per_gflop == pytest.approx(0.01)


def test_one_slow_claim_among_equal_ones_moves_no_rate() -> None:
    pace = Pace()
    for seconds in (1.0, 1.0, 60.0, 1.0, 1.0):
        pace.learn(seconds, 10.0)
    assert pace.seconds_per_gflop == pytest.approx(0.1)


def test_a_batch_may_stall_for_a_minute_or_four_batches() -> None:
    pace = Pace()
    pace.learn(1.0, 1.0)
    assert pace.stall_seconds == MIN_STALL_SECONDS
    pace.learn(30.0, 1.0)
    assert pace.stall_seconds == 120.0


def test_a_pass_is_bounded_by_items_and_by_memory_and_takes_one_in_any_case() -> None:
    room = Room(items=32, memory_bytes=1_000)
    assert [room.at_once(each) for each in (0, 10, 100, 5_000)] == [32, 32, 10, 1]


def test_room_that_was_missing_comes_back_by_and_by() -> None:
    room = Room(items=32, memory_bytes=1_000)
    room.shrink(10, 100)
    assert room.at_once(100) == 5
    for _ in range(100):
        room.grow()
    assert room.at_once(100) == 10


def test_how_full_batches_are_is_the_share_of_all_their_places() -> None:
    fill = Fill()
    assert fill.share is None
    fill.count(32, 32)
    fill.count(1, 32)
    assert fill.share == pytest.approx(33 / 64)


def test_batches_of_long_ago_say_nothing_of_how_full_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = Fill()
    fill.count(1, 32)
    later = time.monotonic() + (FILL_MINUTES + 1) * 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert fill.share is None
    fill.count(16, 32)
    assert fill.share == pytest.approx(0.5)


def test_a_process_takes_some_of_the_memory_that_there_is() -> None:
    memory = own_memory()
    assert memory is not None
    assert 2**20 < memory.taken < memory.limit
