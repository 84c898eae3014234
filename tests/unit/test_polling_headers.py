"""The headers of a poll: what a client knows already, and how long it would wait."""

import pytest

from api.conditional import etag_of, matches
from api.preferences import wait_seconds

TAG = etag_of("a job", weak=True)
STRONG = TAG.removeprefix("W/")


@pytest.mark.parametrize(
    "lines",
    [[TAG], [STRONG], [f'"other", {TAG}'], [f'W/"a,b" ,{STRONG},"c"'], ['"other"', TAG], ["*"], [" * "]],
)
def test_a_client_that_holds_the_answer_is_recognised(lines: list[str]) -> None:
    assert matches(lines, TAG)


@pytest.mark.parametrize(
    "lines", [None, [], [""], ['"other"'], [STRONG.strip('"')], ['"*"'], [STRONG.upper()], [f'W/"{TAG}"']]
)
def test_a_client_that_holds_something_else_is_not(lines: list[str] | None) -> None:
    assert not matches(lines, TAG)


def test_tags_tell_contents_apart_and_say_what_they_promise() -> None:
    assert etag_of("a", "bc") != etag_of("ab", "c")
    assert etag_of("a") == etag_of(b"a")
    assert (TAG[:3], STRONG[0], len(STRONG)) == ('W/"', '"', 34)


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=30"], 30),
        (["WAIT=5"], 5),
        (['wait="7"'], 7),
        (["wait = 8 "], 8),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=11"], 11),
        (['foo="a, wait=3; \\" b"; bar, wait=12'], 12),
        (["wait=13; urgent, wait=14"], 13),
        (["wait=0"], 0),
        (["wait=61"], 60),
        (["wait=" + "9" * 900], 60),
        (["return=minimal"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=soon, wait=5"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=٣"], None),
        (["waiting=5"], None),
        (['foo="wait=5'], None),
        ([";,=,;"], None),
        ([""], None),
        ([], None),
        (None, None),
    ],
)
def test_of_the_preferences_the_first_wait_is_read(lines: list[str] | None, seconds: int | None) -> None:
    assert wait_seconds(lines, 60) == seconds


def test_a_header_made_to_be_slow_is_read_at_once() -> None:
    assert wait_seconds(['"\\' * 300_000, "wait=5"], 60) is None
