"""Following a job over a real connection: nothing missed, nothing twice, wherever it broke off."""

import json
import random
import signal
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.following import ITEMS_AT_ONCE
from api.schemas.ids import job_id
from api.settings import ApiSettings
from benchmarks.results import fill
from jobs import cancel, retention
from jobs.blobs import BlobStore
from jobs.keys import create_key
from jobs.leases import Appetite
from models.types import JobType, Priority
from tests.faults import change, do
from tests.finished import finish_with, lens_payloads, submit_lens
from tests.integration.test_polling import elapsed, process_of_the_api, served, wait_for_waiters
from tests.ledger import TENANT, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]


@dataclass
class Event:
    """One event as it was read."""

    name: str = ""
    data: Any = None
    id: str | None = None
    retry: int | None = None
    comments: list[str] = field(default_factory=list)


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """Events as the standard says to read them; comments alone are one without a name."""
    told = Event()
    for line in answer.iter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield told
            told = Event()
        elif name == "data":
            told.data = json.loads(value)
        elif name == "event":
            told.name = value
        elif name == "id":
            told.id = value
        elif name == "retry":
            told.retry = int(value)
        else:
            told.comments.append(value)


@dataclass(frozen=True)
class Client:
    """Somebody who follows jobs."""

    http: httpx.Client

    def get(self, job: uuid.UUID, **headers: str) -> httpx.Response:
        return self.http.get(f"/v1/jobs/{job_id(job)}/events", headers=headers)

    @contextmanager
    def follow(self, job: uuid.UUID, last: str | None = None, **query: Any) -> Iterator[Iterator[Event]]:
        headers = {"Last-Event-ID": last} if last is not None else {}
        url = f"/v1/jobs/{job_id(job)}/events"
        with self.http.stream("GET", url, headers=headers, params=query) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            yield events_of(answer)

    def read(self, job: uuid.UUID, last: str | None = None, **query: Any) -> list[Event]:
        """All events until the stream ends."""
        with self.follow(job, last, **query) as events:
            return list(events)


@pytest.fixture
def app(settings: ApiSettings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI, key: str) -> Iterator[Client]:
    with (
        served(app) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http,
    ):
        yield Client(http)


def names(events: Sequence[Event]) -> list[str]:
    return [event.name for event in events]


def items(events: Sequence[Event]) -> list[int]:
    return [event.data["index"] for event in events if event.name == "item"]


def do_all(sessions: Sessions, seed: int, failing: Sequence[int] = ()) -> None:
    """Claim all that waits, then complete it in any order, several at a time."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    held = []
    while claimed := claim(sessions, appetite=Appetite(items=chance.randint(1, 5))):
        held.append(claimed)
    chance.shuffle(held)
    pauses = [chance.uniform(0, 0.05) for _ in held]

    def do_one(number: int) -> None:
        time.sleep(pauses[number])
        assert complete(sessions, held[number], failing=failing)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(do_one, range(len(held))))


def read_in_parts(client: Client, job: uuid.UUID, seed: int) -> list[int]:
    """The indexes of all items, by somebody who leaves and comes back until the job is done."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    found: list[int] = []
    last: str | None = None
    while True:
        patience = chance.randint(0, 60)
        with client.follow(job, last) as events:
            for number, event in enumerate(events):
                assert (number, event.name) != (0, "item"), "the state comes first"
                if event.name == "item":
                    found.append(event.data["index"])
                    last = event.id
                if event.name == "done":
                    return found
                if number >= patience:
                    break


@pytest.mark.parametrize("seed", range(4))
def test_whoever_comes_back_with_the_last_id_misses_nothing_and_has_nothing_twice(
    client: Client, sessions: Sessions, seed: int
) -> None:
    # single items that share leases with those of another job, and units of many
    sizes = [40, 300, 24]
    jobs = [submit_texts(sessions, size, priority=Priority.BULK if size > 64 else None) for size in sizes]
    with ThreadPoolExecutor(4) as pool:
        reading = [
            pool.submit(read_in_parts, client, job, seed + size)
            for job, size in zip(jobs, sizes, strict=True)
        ]
        do_all(sessions, seed, failing=(3, 5))
        for one, size in zip(reading, sizes, strict=True):
            assert sorted(one.result()) == list(range(size))


def test_an_ended_job_is_told_from_the_state_to_the_end(client: Client, sessions: Sessions) -> None:
    labels = ["a cat", "dog"]
    job = submit_lens(sessions, 3, labels)
    payloads, _ = lens_payloads(3, labels)
    finish_with(sessions, payloads, failing=(1,))
    told = client.read(job)
    assert names(told) == ["state", "item", "item", "item", "progress", "done"]
    assert (told[0].data, told[0].retry) == ({"state": "partial", "done": True}, 2_000)
    assert [event.id for event in told[1:4]] == ["1", "2", "3"]
    assert told[1].data == {
        "index": 0,
        "custom_id": "ä 0.jpg",
        "state": "succeeded",
        "error_code": None,
        "top_label": payloads[0]["top"]["label"],
        "item_url": f"/v1/jobs/{job_id(job)}/items/0",
    }
    assert (told[2].data["error_code"], told[2].data["top_label"]) == ("image-truncated", None)
    assert client.http.get(told[1].data["item_url"]).json()["index"] == 0
    assert told[-1].data == client.http.get(f"/v1/jobs/{job_id(job)}").json()
    assert told[-1].id == "done"


def test_what_happens_is_told_as_it_happens(client: Client, sessions: Sessions) -> None:
    job = submit_texts(sessions, 2)
    with client.follow(job) as events:
        assert (next(events).data["state"], next(events).data["succeeded"]) == ("queued", 0)
        held = claim(sessions)
        assert held is not None
        started = next(events)
        assert (started.name, started.data) == ("state", {"state": "running", "done": False})
        complete(sessions, held)
        item, progress = next(events), next(events)
        assert (item.data["index"], item.id, progress.data["fraction"]) == (0, "1", 0.5)
        held = claim(sessions)
        assert held is not None
        complete(sessions, held)
        assert names(list(events)) == ["item", "progress", "state", "done"]


def test_without_items_only_the_job_is_told(client: Client, sessions: Sessions) -> None:
    job = submit_texts(sessions, 3)
    do_all(sessions, 0)
    assert names(client.read(job, items=False)) == ["state", "progress", "done"]


def test_dropped_items_have_places_and_no_events(client: Client, sessions: Sessions) -> None:
    job = submit_texts(sessions, 5)
    first, second = claim(sessions), claim(sessions)
    assert first is not None
    assert second is not None
    complete(sessions, first)
    with sessions.begin() as session:
        cancel.cancel(session, TENANT, job)
        cancel.drop_work(session, job)
    complete(sessions, second)
    told = client.read(job)
    assert items(told) == [0, 1]
    assert [event.id for event in told if event.name == "item"] == ["1", "5"]
    assert (told[-1].data["state"], told[-1].data["progress"]["dropped"]) == ("cancelled", 3)
    for last, left in (("0", [0, 1]), ("1", [1]), ("3", [1]), ("5", []), ("9999999999", [])):
        assert items(client.read(job, last)) == left


def test_a_page_is_filled_from_units_of_any_size(
    client: Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.following.ITEMS_AT_ONCE", 7)
    jobs = [submit_texts(sessions, 150, priority=Priority.BULK), submit_texts(sessions, 40)]
    do_all(sessions, 1)
    for job, total in zip(jobs, (150, 40), strict=True):
        told = client.read(job)
        assert sorted(items(told)) == list(range(total))
        assert [event.id for event in told if event.name == "item"] == [str(n + 1) for n in range(total)]


def test_whoever_has_heard_the_end_need_not_come_back(client: Client, sessions: Sessions) -> None:
    job = submit_texts(sessions)
    do_all(sessions, 0)
    last = client.read(job)[-1].id
    assert last is not None
    assert client.get(job, **{"Last-Event-ID": last}).status_code == 204
    for wrong in ("-1", "1.5", "x" * 50, "1" * 11):
        refused = client.get(job, **{"Last-Event-ID": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")


def test_what_is_not_there_or_not_theirs_is_no_stream(
    client: Client, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit_texts(sessions)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    for answer in (client.get(uuid.uuid4()), client.get(job, Authorization=f"Bearer {foreign}")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    do_all(sessions, 0)
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 hour'")
    while do(sessions, lambda session: retention.expire_results(session, blobs)):
        pass
    assert scalar(sessions, "SELECT count(*) FROM job_events") == 0
    gone = client.get(job)
    assert (gone.status_code, gone.json()["code"]) == (410, "results-expired")


def test_results_that_went_meanwhile_are_never_passed_over(client: Client, sessions: Sessions) -> None:
    job = submit_texts(sessions, 3)
    do_all(sessions, 0)
    change(sessions, "DELETE FROM results WHERE index = 1")
    assert "done" not in names(client.read(job))


def test_a_quiet_stream_says_that_it_stands(
    client: Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.following.HEARTBEAT_SECONDS", 0.3)
    job = submit_texts(sessions)
    with client.follow(job) as events:
        told = [next(events) for _ in range(4)]
    assert names(told) == ["state", "progress", "", ""]
    assert told[2].comments == told[3].comments == ["still here"]


def test_more_streams_than_may_be_are_refused(settings: ApiSettings, key: str, sessions: Sessions) -> None:
    job = submit_texts(sessions)
    app = create_app(settings.model_copy(update={"max_streams": 1}))
    with (
        served(app) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}) as http,
    ):
        client = Client(http)
        with client.follow(job) as events:
            next(events)
            refused = client.get(job)
            assert (refused.status_code, refused.json()["code"]) == (503, "too-many-streams")
            assert int(refused.headers["Retry-After"]) > 0
        until = time.monotonic() + 10
        while len(app.state.services.streams):
            assert time.monotonic() < until
            time.sleep(0.01)
        with client.follow(job) as events:
            assert next(events).name == "state"


def test_those_who_follow_hold_no_connection_and_those_who_leave_are_forgotten(
    app: FastAPI, client: Client, sessions: Sessions
) -> None:
    job = submit_texts(sessions)
    with ThreadPoolExecutor(40) as pool:
        following = [pool.submit(client.read, job) for _ in range(40)]
        wait_for_waiters(app, 40)
        # twice as many as the pool has connections, and somebody else is answered
        assert client.http.get(f"/v1/jobs/{job_id(job)}").status_code == 200
        do_all(sessions, 0)
        for one in following:
            assert names(one.result())[-1] == "done"
    wait_for_waiters(app, 0)


def test_streams_end_when_the_process_is_told_to_end(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    job = submit_texts(sessions)
    with process_of_the_api(settings, key) as (process, http), Client(http).follow(job) as events:
        assert names([next(events), next(events)]) == ["state", "progress"]
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert list(events) == [], "it ends as a stream does, and not in the middle"
        assert process.wait(timeout=10) in {0, -signal.SIGTERM}
        assert elapsed(started) < 5


def test_for_a_client_that_does_not_read_no_events_are_made(
    app: FastAPI, client: Client, key: str, sessions: Sessions
) -> None:
    total = 60_000
    job = fill(sessions, TENANT, JobType.LOGIT_LENS, total)
    pages = 0

    def count(*given: Any) -> None:
        nonlocal pages
        pages += "job_events" in given[2]

    event.listen(app.state.services.engine.sync_engine, "before_cursor_execute", count)
    with socket.socket() as slow:
        # before it connects: what the kernel holds for it is not to grow
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.connect((client.http.base_url.host, client.http.base_url.port))
        slow.sendall(
            f"GET /v1/jobs/{job_id(job)}/events HTTP/1.1\r\nHost: here\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        made = -1
        while made != pages or not pages:
            made = pages
            time.sleep(1)
        assert made < total / ITEMS_AT_ONCE / 2
    # it has left, and is forgotten
    until = time.monotonic() + 10
    while len(app.state.services.streams):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert made <= pages <= made + 1
    assert items(client.read(job)) == list(range(total))
