"""Windows of a minute: counted to the last request, over when they say so, and no more of them than fit."""

import uuid

import pytest

from api.errors import RateLimitedError
from api.rate_limits import KNOWN_KEYS, RateLimits, Windows

KEY, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_has_so_many_requests_and_a_minute_later_as_many_again() -> None:
    clock = Clock()
    limits = RateLimits(3, 0, clock)
    seen = []
    for _ in range(4):
        allowed, standing = limits.take(KEY, None)
        assert standing is not None
        seen.append((allowed, standing.left, standing.resets_in_s))
        clock.now += 10
    assert seen == [(True, 2, 60), (True, 1, 50), (True, 0, 40), (False, 0, 30)]
    assert standing is not None
    assert standing.headers() == {"RateLimit-Policy": '"default";q=3;w=60', "RateLimit": '"default";r=0;t=30'}
    assert limits.take(OTHER, None)[0]
    # what was said is true: not before, and then at once
    clock.now = 1059.9
    assert limits.take(KEY, None)[0] is False
    clock.now = 1060.0
    assert limits.take(KEY, None)[0] is True


def test_a_limit_of_ones_own_wins_and_none_is_none() -> None:
    assert RateLimits(0, 0).take(KEY, None) == (True, None)
    limits = RateLimits(1, 0)
    assert [limits.take(KEY, 2)[0] for _ in range(3)] == [True, True, False]
    assert [RateLimits(0, 0).take(KEY, 1)[0] for _ in range(1)] == [True]


def test_windows_are_no_more_than_fit_and_the_first_to_end_go_first() -> None:
    clock = Clock()
    windows = Windows(clock, most=3)
    for name in "abc":
        windows.incr(name, 60)
        clock.now += 1
    windows.incr("a", 60)
    windows.incr("d", 60)
    assert len(windows) == 3
    assert [windows.get(name) for name in "abcd"] == [0, 1, 1, 1]
    clock.now += 59
    # b and c are over, and make room before anything that runs does
    windows.incr("e", 60)
    assert [windows.get(name) for name in "bcde"] == [0, 0, 1, 1]
    assert len(windows) == 2


def test_an_address_that_tries_many_bad_keys_has_the_next_ones_refused_unseen() -> None:
    clock = Clock()
    limits = RateLimits(0, 3, clock)
    limits.note_good_key("good")
    for number in range(3):
        limits.check_stranger("192.0.2.1", f"bad {number}")
        limits.note_bad_key("192.0.2.1", f"bad {number}")
    with pytest.raises(RateLimitedError) as refused:
        limits.check_stranger("192.0.2.1", "bad 4")
    assert refused.value.retry_after_s == 60
    # behind the same proxy as who was good before
    limits.check_stranger("192.0.2.1", "good")
    limits.check_stranger("192.0.2.2", "bad 4")
    # what was good and is no more is a bad key like others
    limits.note_bad_key("192.0.2.9", "good")
    with pytest.raises(RateLimitedError):
        limits.check_stranger("192.0.2.1", "good")
    clock.now += 60
    limits.check_stranger("192.0.2.1", "bad 4")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        (None, "/run/socket", True),
    ],
)
def test_an_address_is_what_one_client_has(first: str | None, second: str, *, same: bool) -> None:
    limits = RateLimits(0, 1)
    limits.note_bad_key(first, "bad")
    if same:
        with pytest.raises(RateLimitedError):
            limits.check_stranger(second, "bad")
    else:
        limits.check_stranger(second, "bad")


def test_keys_that_were_good_are_no_more_than_fit() -> None:
    limits = RateLimits(0, 1)
    for number in range(KNOWN_KEYS + 5):
        limits.note_good_key(str(number))
    assert len(limits._known) == KNOWN_KEYS
    assert "0" not in limits._known


def test_without_a_limit_on_bad_keys_none_is_counted() -> None:
    limits = RateLimits(0, 0)
    for _ in range(1000):
        limits.note_bad_key("192.0.2.1", "bad")
        limits.check_stranger("192.0.2.1", "bad")
    assert len(limits._strangers) == 0
