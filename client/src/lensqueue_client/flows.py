"""What takes several requests, as generators: they yield what is to be sent, and are told the answer.

So the retries, the long poll and the paging are written once; `Client` and `AsyncClient` only send and sleep
(the way that httpx has its authentication flows).
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from lensqueue_client import calls, set_calls
from lensqueue_client.calls import Call
from lensqueue_client.errors import (
    ActionTimeoutError,
    JobNotEndedError,
    LensqueueError,
    WaitTimeoutError,
    error_of,
    seconds,
    unreachable,
)
from lensqueue_client.pictures import size_of

if TYPE_CHECKING:
    from lensqueue_client.actions import Action
    from lensqueue_client.downloads import Download
    from lensqueue_client.jobs import Job
    from lensqueue_client.pictures import Part

Answer = TypeVar("Answer")
Result = TypeVar("Result")

AGAIN: Final = frozenset({408, 429, 502, 503, 504})
"""Answers that say: not now; or that the network was too slow this time."""
POLL_SECONDS: Final = 30
"""How long the service is asked to hold a poll."""
READ_SHARE: Final = 0.8
"""Of the time that an answer may take, a poll is held for so much."""
NEWS_SECONDS: Final = 0.2
"""Between two polls that brought news: a callback need not hear of every item."""
LOOK_SECONDS: Final = (0.2, 5.0)
"""Between two looks at an action: at first, and at most."""
UPLOAD_PICTURES: Final = 100
UPLOAD_BYTES: Final = 64 * 1024 * 1024
"""Of one request, unless a single picture has more: the service takes four times as much."""
_NOTHING_BEHIND: Final = 416
_GONE: Final = frozenset({404, 410})
_HOPELESS: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Send:
    """Send this, after so many seconds."""

    call: Call[Any]
    after_s: float = 0.0
    failure: LensqueueError | None = None
    """Why it is sent again."""


Flow = Generator[Send, httpx.Response, Result]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often something is sent again, and how long to pause: doubling, with chance, bounded."""

    times: int = 6
    first_s: float = 0.5
    longest_s: float = 20.0
    longest_told_s: float = 120.0
    """Of what `Retry-After` asks for; who would wait longer hears of it instead."""

    def pause(self, number: int, told_s: float | None) -> float:
        """Before the next try: what the service asked for, and a little more so that not all come at once."""
        own_s: float = min(self.first_s * 2.0**number, self.longest_s) * random.uniform(0.5, 1.0)  # noqa: S311
        return own_s if told_s is None else told_s + own_s / 4


PATIENT: Final = Retries(times=25)
"""Of whoever waits for a job, or for a large file: some seven minutes."""


def once(call: Call[Answer], retries: Retries) -> Flow[Answer]:
    """Send, again where that helps, and read the answer.

    Raises:
        LensqueueError: what the service answered instead, or that it did not.
    """
    response = yield from attempt(call, retries)
    return call.read(response)


def ended(job: Job | str, retries: Retries, *, partial: bool) -> Flow[None]:
    """Nothing, where a job has ended, or need not have.

    Raises:
        JobNotEndedError: it has not.
    """
    if partial or getattr(job, "done", False):
        return
    seen = yield from once(calls.get_job(job), retries)
    if not seen.done:
        raise JobNotEndedError(seen)


def attempt(
    call: Call[Any],
    retries: Retries,
    after_s: float = 0.0,
    deadline: float = math.inf,
    late: LensqueueError | None = None,
) -> Flow[httpx.Response]:
    """Send until there is an answer other than "not now", or raise `late` at the deadline.

    Whatever is sent may be sent again: what creates something has an Idempotency-Key, the same each time.
    """
    failure: LensqueueError | None = None
    for number in itertools.count():
        try:
            response = yield Send(call, after_s, failure)
        except httpx.TransportError as error:
            failure = unreachable(error)
            if isinstance(error, _HOPELESS):
                raise failure from error
        else:
            if _is_answer(call, response, number):
                return response
            failure = error_of(response)
            if response.status_code not in AGAIN:
                raise failure
        after_s = retries.pause(number, failure.retry_after_s)
        if time.monotonic() + after_s > deadline:
            if late is None:
                raise failure
            raise late from failure
        told_too_long = (failure.retry_after_s or 0) > retries.longest_told_s
        if number >= retries.times or told_too_long:
            raise failure
    raise AssertionError


def _is_answer(call: Call[Any], response: httpx.Response, number: int) -> bool:
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return True
    # a second deletion, or one whose first answer was lost
    if call.gone_is_done and number and response.status_code in _GONE:
        return True
    # whoever goes on with a part decides what that says of it
    return "Range" in call.headers and response.status_code == _NOTHING_BEHIND


def open_results(job: Job | str, file: Download) -> Flow[httpx.Response | None]:
    """What is missing of a file of results, open; None when an earlier try had all of it but the name."""
    while not file.is_whole:
        call = calls.open_results(job, file.shape, file.headers())
        # a part of a large file is prepared first, which takes minutes
        response = yield from attempt(call, PATIENT)
        if response.status_code != _NOTHING_BEHIND:
            return response
        file.settle(response)
    return None


def open_file(job: Job | str, name: str, file: Download) -> Flow[httpx.Response | None]:
    """What is missing of a file that a job made, open; None when an earlier try had all of it."""
    while not file.is_whole:
        response = yield from attempt(set_calls.open_file(job, name, file.headers()), PATIENT)
        if response.status_code != _NOTHING_BEHIND:
            return response
        file.settle(response)
    return None


def wait(
    job: Job | str,
    timeout_s: float | None,
    on_progress: Callable[[Job], object] | None,
    read_timeout_s: float | None,
) -> Flow[Job]:
    """The job once it is done: by long polls, through restarts of the service.

    A poll is held for less than the connection would wait for its answer.

    Raises:
        WaitTimeoutError: it was not, in the time given.
        LensqueueError: what was last answered, if in that time not even the job was.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    if isinstance(job, str):
        seen = calls.read_job((yield from attempt(calls.get_job(job), PATIENT, deadline=deadline)))
    else:
        seen = job
    longest_s = min(POLL_SECONDS, math.inf if read_timeout_s is None else read_timeout_s * READ_SHARE)
    tag: str | None = None
    after_s = 0.0
    if on_progress:
        on_progress(seen)
    while not seen.done:
        left_s = deadline - time.monotonic()
        if left_s <= after_s:
            raise WaitTimeoutError(seen)
        held_s = math.floor(min(max(1.0, left_s), longest_s))
        headers = {"Prefer": f"wait={held_s}"} if held_s else {}
        if on_progress and tag:
            headers["If-None-Match"] = tag  # back at the first news, not at the end
        poll = calls.get_job(seen, headers)
        response = yield from attempt(poll, PATIENT, after_s, deadline, WaitTimeoutError(seen))
        granted = "Preference-Applied" in response.headers
        # whom it would not let wait, it tells when to ask again
        after_s = 0.0 if granted else seconds(response.headers.get("Retry-After")) or 1.0
        if response.status_code == httpx.codes.NOT_MODIFIED:
            continue
        seen, tag = calls.read_job(response), response.headers.get("ETag")
        if on_progress:
            on_progress(seen)
            after_s = max(after_s, NEWS_SECONDS)
    return seen


def wait_for_action(action: Action | str, timeout_s: float | None) -> Flow[Action]:
    """The action once it has come to the last of its jobs; looked at more and more seldom.

    Raises:
        ActionTimeoutError: it has not, in the time given.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    pause_s, longest_s = LOOK_SECONDS
    call = calls.get_action(action)
    seen = call.read((yield from attempt(call, PATIENT, deadline=deadline)))
    while not seen.ended:
        if time.monotonic() + pause_s > deadline:
            raise ActionTimeoutError(seen)
        seen = call.read((yield from attempt(call, PATIENT, pause_s, deadline, ActionTimeoutError(seen))))
        pause_s = min(pause_s * 1.5, longest_s)
    return seen


def upload(parts: list[Part], retries: Retries) -> Flow[list[str]]:
    """The ids of pictures, sent some at a time."""
    ids: list[str] = []
    if any(part.image_id for part in parts):
        raise ValueError("an image id is uploaded already")
    for batch in _batches(parts):
        ids += yield from once(calls.upload_images(batch), retries)
    return ids


def _batches(parts: list[Part]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    batch_bytes = 0
    for part in parts:
        part_bytes = size_of(part)
        if batch and (len(batch) == UPLOAD_PICTURES or batch_bytes + part_bytes > UPLOAD_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(part)
        batch_bytes += part_bytes
    if batch:
        yield batch
