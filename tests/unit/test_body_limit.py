"""Bodies as they come: at the least rate, or not for long where they hold much."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from api.errors import BodyStalledError
from api.middleware import LEAST_BYTES_A_SECOND, BodyLimit
from api.spool import SMALL_BYTES, Spool

STALL_SECONDS = 0.4
PAUSE_SECONDS = 0.02


def read(chunks: Iterable[bytes], declared: int | None, pause_here: float = 0.0) -> int:
    """Have a body read that comes in chunks; returns how much was read before its end."""
    left = iter(chunks)
    total = 0

    async def receive() -> Any:
        await asyncio.sleep(PAUSE_SECONDS)
        chunk = next(left, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def app(_: Any, receive: Any, __: Any) -> None:
        nonlocal total
        while (message := await receive())["more_body"]:
            total += len(message["body"])
            await asyncio.sleep(pause_here)

    async def send(_: Any) -> None:
        raise AssertionError("nothing is answered")

    limit = BodyLimit(
        app, limit_bytes=100 * SMALL_BYTES, stall_seconds=STALL_SECONDS, spool=Spool(SMALL_BYTES)
    )
    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    asyncio.run(limit({"type": "http", "headers": headers}, receive, send))
    return total


def test_what_holds_much_and_comes_byte_by_byte_is_given_up() -> None:
    with pytest.raises(BodyStalledError, match="Less than 10000 bytes a second"):
        read([b"x"] * 100, declared=2 * SMALL_BYTES)


@pytest.mark.parametrize("declared", [20 * SMALL_BYTES, None])
def test_a_good_beginning_does_not_count_for_ever(declared: int | None) -> None:
    with pytest.raises(BodyStalledError):
        read([bytes(2 * SMALL_BYTES), *[b"x"] * 100], declared=declared)


def test_what_comes_at_the_least_rate_is_read_to_its_end() -> None:
    chunk = bytes(int(100 * LEAST_BYTES_A_SECOND * PAUSE_SECONDS))
    assert read([chunk] * 30, declared=2 * SMALL_BYTES) == 30 * len(chunk)


def test_what_holds_little_may_come_slowly() -> None:
    assert read([b"x"] * 30, declared=30) == 30


def test_a_body_that_would_take_too_long_in_all_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.middleware.BODY_SECONDS", 10)
    # ten times the rate that any large body has to come at, a tenth of what this one would take
    chunk = bytes(int(10 * LEAST_BYTES_A_SECOND * PAUSE_SECONDS))
    size = int(1_000 * LEAST_BYTES_A_SECOND)
    with pytest.raises(BodyStalledError, match="Less than 1000000 bytes a second"):
        read([chunk] * 100, declared=size)


@pytest.mark.parametrize("declared", [10, None])
def test_none_is_waited_for_without_end(declared: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.middleware.BODY_SECONDS", 0.2)
    with pytest.raises(BodyStalledError, match=r"Not all of the body came in 0\.2 s"):
        read([b"x"] * 100, declared=declared)


def test_the_time_that_the_service_takes_does_not_count() -> None:
    assert read([b"x"] * 3, declared=2 * SMALL_BYTES, pause_here=0.2) == 3
