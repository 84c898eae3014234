"""What a poll says of what is to come: the place in the queue, the time left, why nothing is done."""

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from jobs import outlook, workers
from jobs.outlook import Outlook
from models.types import Priority
from models.worker import Worker
from tests.faults import change
from tests.ledger import MODEL, claim, complete, read, submit_texts

Sessions = sessionmaker[Session]


def look(sessions: Sessions, job_id: uuid.UUID) -> Outlook:
    with sessions() as session:
        return outlook.outlook_of(session, job_id)


def come_online(sessions: Sessions, seconds_per_gflop: float | None = 0.5, count: int = 1) -> None:
    for _ in range(count):
        worker_id = uuid.uuid4()
        with sessions.begin() as session:
            workers.register(session, worker_id, model=MODEL, device="cpu", dtype="float32")
            workers.report_online(session, worker_id, device="cpu", dtype="float32", revision=None)
            session.get_one(Worker, worker_id).seconds_per_gflop = seconds_per_gflop


def test_a_position_counts_the_units_that_come_before(sessions: Sessions) -> None:
    first, second = submit_texts(sessions, 3), submit_texts(sessions, tenant="another")
    submit_texts(sessions, model="other")
    assert look(sessions, first).queue_position == 1
    # the flow of another tenant begins where the first one's did
    assert look(sessions, second).queue_position == 2
    held = claim(sessions)
    assert held is not None
    assert (look(sessions, first).queue_position, look(sessions, second).queue_position) == (None, 1)
    assert complete(sessions, held)


def test_a_position_is_counted_no_further_than_it_says(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "POSITIONS", 3)
    monkeypatch.setitem(outlook.PARAMETERS, "positions", 3)
    submit_texts(sessions, 2)
    third, fourth = submit_texts(sessions), submit_texts(sessions)
    assert (look(sessions, third).queue_position, look(sessions, fourth).queue_position) == (3, None)


def test_the_time_that_is_left_is_what_comes_before_and_the_job_itself(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 4)
    assert look(sessions, job_id).eta_s is None, "no worker"
    come_online(sessions, None)
    assert look(sessions, job_id).eta_s is None, "nothing measured"
    change(sessions, "UPDATE jobs SET cost = 40, vtime_end = 40 / 8.0")
    change(sessions, "UPDATE work SET vtime = unit * 10 / 8.0, cost = 10")
    change(sessions, "UPDATE flows SET clock = 40 / 8.0")
    change(sessions, "UPDATE workers SET seconds_per_gflop = 0.5")
    assert look(sessions, job_id).eta_s == 20, "40 GFLOP at half a second each"
    come_online(sessions)
    assert look(sessions, job_id).eta_s == 10, "two workers share it"
    # a bulk flow has an eighth of the turns: until all of the first is begun, so much of it is served too
    other = submit_texts(sessions, 1, tenant="another", priority=Priority.BULK)
    change(sessions, "UPDATE flows SET clock = 1000 WHERE tenant = 'another'")
    change(sessions, "UPDATE jobs SET vtime_end = 900 WHERE id = :id", id=other)
    assert look(sessions, job_id).eta_s == 12, "(40 + 40 / 8) / 2 / 2"
    assert look(sessions, other).eta_s == (900 + 40) / 2 / 2
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    change(sessions, "UPDATE queues SET floor = 30 / 8.0")
    assert look(sessions, job_id).eta_s == 8, "three of four units are left, whatever the queue has come by"


def test_what_has_ended_has_nothing_before_it(sessions: Sessions) -> None:
    come_online(sessions)
    job_id = submit_texts(sessions)
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    assert read(sessions, job_id).ended_at is not None
    seen = look(sessions, job_id)
    assert (seen.queue_position, seen.eta_s) == (None, None)


def test_what_changes_as_others_are_served_is_no_news(api: TestClient, sessions: Sessions) -> None:
    submit_texts(sessions, tenant="another")
    job: dict[str, Any] = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a"]}}).json()
    polled = api.get(job["links"]["self"])
    assert (polled.json()["progress"]["queue_position"], polled.json()["progress"]["eta_s"]) == (2, None)
    assert claim(sessions) is not None
    again = api.get(job["links"]["self"])
    assert again.json()["progress"]["queue_position"] == 1
    assert again.headers["ETag"] == polled.headers["ETag"]
    known = {"If-None-Match": polled.headers["ETag"]}
    assert api.get(job["links"]["self"], headers=known).status_code == 304


def test_a_job_of_a_paused_queue_says_so_and_a_pause_is_news(api: TestClient, sessions: Sessions) -> None:
    come_online(sessions)
    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a"]}}).json()
    assert job["waiting_for"] is None
    assert job["progress"]["eta_s"] >= 0
    etag = api.get(job["links"]["self"]).headers["ETag"]
    change(sessions, "UPDATE queues SET paused_at = now()")
    paused = api.get(job["links"]["self"], headers={"If-None-Match": etag, "Prefer": "wait=20"})
    assert paused.json()["waiting_for"]["code"] == "queue-paused"
    assert paused.json()["progress"]["eta_s"] is None
    assert paused.headers["ETag"] != etag
