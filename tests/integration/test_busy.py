"""Requests that wait for what others hold: not for long, and never so many that other tenants wait too."""

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api import app
from api.refunds import LOCK_SECONDS
from api.turns import Turns
from jobs import reservations
from jobs.keys import create_key
from models.session import POOL_SIZE
from tests.faults import LOCK_WAITERS
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, claim, complete, scalar

Sessions = sessionmaker[Session]
MANY = POOL_SIZE + 2
TEXTS = {"type": "embedding", "input": {"texts": ["a ring"]}}
Send = Callable[[TestClient, str], Any]


@pytest.fixture
def other(sessions: Sessions) -> dict[str, str]:
    """What another tenant sends with a submit."""
    with sessions.begin() as session:
        key = create_key(session, name="other", tenant="somebody else").key
    return {"Authorization": f"Bearer {key}", "Idempotency-Key": "once"}


@pytest.fixture
def link(api: TestClient, sessions: Sessions) -> str:
    """A job that ended."""
    job = api.post("/v1/jobs", json=TEXTS).raise_for_status().json()
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    return str(job["links"]["self"])


def delete(api: TestClient, link: str) -> Any:
    return api.delete(link)


def retry(api: TestClient, link: str) -> Any:
    return api.post(f"{link}/retry", json={"scope": "all"})


def cancel(api: TestClient, link: str) -> Any:
    return api.post(f"{link}/cancel")


def clock(sessions: Sessions) -> float:
    return float(scalar(sessions, "SELECT coalesce(sum(clock), 0) FROM flows"))


def wait_for_clock(sessions: Sessions, wanted: float) -> None:
    until = time.monotonic() + 20
    while clock(sessions) != pytest.approx(wanted, abs=1e-9):
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def held(sessions: Sessions, link: str) -> Iterator[None]:
    """All that the requests of the tenant need is locked: the job, and whatever room they set aside."""
    with sessions.begin() as session:
        job_id = uuid.UUID(link.rpartition("_")[2])
        session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
        reservations.wait_turn(session, TENANT)
        yield


def wait_for_waiters(sessions: Sessions, least: int = 1) -> None:
    until = time.monotonic() + 20
    while scalar(sessions, LOCK_WAITERS) < least:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("send", "at_once"), [(delete, 1), (retry, 2)])
def test_what_waits_of_one_tenant_keeps_no_other_from_a_connection(
    api: TestClient,
    sessions: Sessions,
    link: str,
    other: dict[str, str],
    send: Send,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 60)
    with ThreadPoolExecutor(MANY) as pool:
        with held(sessions, link):
            waiting = [pool.submit(send, api, link) for _ in range(MANY)]
            wait_for_waiters(sessions, at_once)
            assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
            # and its own that needs nothing of that
            assert api.post("/v1/jobs", json=TEXTS, headers={"Idempotency-Key": "own"}).status_code == 202
            assert scalar(sessions, LOCK_WAITERS) == at_once
            assert not any(sent.done() for sent in waiting)
        assert {sent.result().status_code for sent in waiting} <= {202, 204}


def test_large_submits_of_one_tenant_keep_no_other_from_a_connection(
    api: TestClient, sessions: Sessions, other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.storing.MOST_ITEMS", 1)
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 60)
    large = {"type": "embedding", "input": {"texts": ["a ring", "a square"]}}
    stop = """
        CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
        CREATE TRIGGER stop BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.total > 1) EXECUTE FUNCTION stop()"""
    with sessions.begin() as session:
        session.execute(text(stop))
    with ThreadPoolExecutor(MANY) as pool:
        with sessions.begin() as session:
            session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            waiting = [pool.submit(api.post, "/v1/jobs", json=large) for _ in range(MANY)]
            wait_for_waiters(sessions, 2)
            assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
            assert scalar(sessions, LOCK_WAITERS) == 2
        assert {sent.result().status_code for sent in waiting} == {202}


def test_charges_that_wait_for_one_clock_leave_connections_for_keys(
    api: TestClient, sessions: Sessions, link: str, other: dict[str, str]
) -> None:
    with ThreadPoolExecutor(MANY) as pool:
        with sessions.begin() as session:
            session.execute(text("SELECT 1 FROM flows FOR UPDATE"))
            waiting = [pool.submit(api.post, "/v1/jobs", json=TEXTS) for _ in range(MANY)]
            wait_for_waiters(sessions, 3)
            assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
            assert api.get(link).status_code == 200
            assert scalar(sessions, LOCK_WAITERS) == 3
        assert {sent.result().status_code for sent in waiting} == {202}


def test_two_tenants_that_wait_keep_no_third_from_uploads_submits_and_deletes(
    api: TestClient,
    sessions: Sessions,
    link: str,
    other: dict[str, str],
    picture: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 60)
    with sessions.begin() as session:
        third = create_key(session, name="third", tenant="a third").key
    head = {"Authorization": f"Bearer {third}", "Idempotency-Key": "third"}
    job = api.post("/v1/jobs", json=TEXTS, headers=other).json()["links"]["self"]
    claimed = claim(sessions)
    assert claimed is not None
    assert complete(sessions, claimed)
    upload = [("images", ("a.jpg", picture, "image/jpeg"))]
    with ThreadPoolExecutor(16) as pool:
        with sessions.begin() as session:
            session.execute(text("SELECT 1 FROM jobs FOR UPDATE"))
            waiting = [
                pool.submit(api.request, method, path + end, headers=headers, json=body)
                for path, headers in ((link, {}), (job, {"Authorization": other["Authorization"]}))
                for method, end, body in (("DELETE", "", None), ("POST", "/retry", {"scope": "all"}))
                for _ in range(4)
            ]
            wait_for_waiters(sessions, 5)
            sent = api.post("/v1/images", files=upload, headers=head).raise_for_status().json()
            assert api.delete(f"/v1/images/{sent['items'][0]['id']}", headers=head).status_code == 204
            assert api.post("/v1/jobs", json=TEXTS, headers=head).status_code == 202
            assert scalar(sessions, LOCK_WAITERS) == 5
        assert all(sent.result().status_code < 500 for sent in waiting)


@pytest.mark.parametrize("send", [delete, cancel])
def test_what_is_to_end_and_cannot_yet_holds_up_no_submit_of_its_tenant(
    api: TestClient, sessions: Sessions, link: str, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 60)
    if send is cancel:
        link = api.post("/v1/jobs", json=TEXTS).json()["links"]["self"]
    with ThreadPoolExecutor(MANY) as pool:
        with held(sessions, link):
            waiting = [pool.submit(send, api, link) for _ in range(MANY)]
            wait_for_waiters(sessions)
            assert api.post("/v1/jobs", json=TEXTS).status_code == 202
            assert api.post("/v1/jobs", json=TEXTS, headers={"Idempotency-Key": "own"}).status_code == 202
            assert not any(sent.done() for sent in waiting)
        assert {sent.result().status_code for sent in waiting} <= {200, 204}


def test_a_submit_with_a_key_waits_for_its_pictures_no_longer_than_others_do(
    api: TestClient, sessions: Sessions, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 1)
    image = {"data": base64.b64encode(picture).decode()}
    body = {"type": "embedding", "input": {"images": [image]}}
    api.post("/v1/images", files=[("images", ("a.jpg", picture, "image/jpeg"))]).raise_for_status()
    with sessions.begin() as session:
        session.execute(text("SELECT 1 FROM images FOR UPDATE"))
        refused = api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "own"})
    assert_problem(refused, 503, "busy")
    assert clock(sessions) == pytest.approx(0)
    assert api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "own"}).status_code == 202


def test_a_cancelled_job_is_paid_back_however_long_the_clock_is_locked(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.refunds.WAIT_SECONDS", 0.1)
    job = api.post("/v1/jobs", json=TEXTS).json()
    charged = clock(sessions)
    with sessions.begin() as session:
        session.execute(text("SELECT 1 FROM flows FOR UPDATE"))
        assert api.post(job["links"]["cancel"]).json()["state"] == "cancelled"
        # longer than one try waits
        wait_for_waiters(sessions)
        time.sleep(LOCK_SECONDS + 0.2)
        assert clock(sessions) == charged > 0
    wait_for_clock(sessions, 0)


def test_what_failed_is_paid_back_by_one_connection_however_long_the_clock_is_locked(
    api: TestClient, sessions: Sessions, other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.refunds.WAIT_SECONDS", 0.1)
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(1); RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW
        WHEN (NEW.tenant = 'tests') EXECUTE FUNCTION refuse()"""
    with sessions.begin() as session:
        session.execute(text(refuse))
    with ThreadPoolExecutor(3) as pool, sessions.begin() as locking:
        with sessions.begin() as session:
            session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            sent = [pool.submit(api.post, "/v1/jobs", json=TEXTS) for _ in range(3)]
            wait_for_waiters(sessions, 3)
            locking.execute(text("SELECT 1 FROM flows FOR UPDATE"))
        assert {answer.result().status_code for answer in sent} == {503}
        assert clock(sessions) > 0
        assert scalar(sessions, LOCK_WAITERS) <= 1
        assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
    wait_for_clock(sessions, scalar(sessions, "SELECT max(vtime_end) FROM jobs"))


def test_turns_are_no_more_than_the_connections_that_they_are_for() -> None:
    assert sum(at_once for at_once, _ in (app.QUICK, app.SLOW, app.ENDING)) <= POOL_SIZE
    # one for refunds, and some for keys and polls
    assert app.DIRECT[0] + 1 < POOL_SIZE


@pytest.mark.parametrize("send", [delete, retry])
def test_what_is_held_for_too_long_is_not_waited_for_and_nothing_was_changed(
    api: TestClient, sessions: Sessions, link: str, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 1)
    clock = scalar(sessions, "SELECT clock FROM flows")
    with held(sessions, link):
        refused = send(api, link)
    assert_problem(refused, 503, "busy")
    assert int(refused.headers["Retry-After"]) > 0
    assert api.get(link).status_code == 200
    assert scalar(sessions, "SELECT clock FROM flows") == clock
    assert send(api, link).status_code in {202, 204}


def test_a_turn_that_does_not_come_is_not_waited_for(api: TestClient, sessions: Sessions, link: str) -> None:
    running: Any = api.app
    running.state.services = replace(running.state.services, ending=Turns(1, wait_seconds=0.2))
    with ThreadPoolExecutor(1) as pool:
        with held(sessions, link):
            first = pool.submit(api.delete, link)
            wait_for_waiters(sessions)
            refused = api.delete(link)
            assert_problem(refused, 503, "busy")
            assert int(refused.headers["Retry-After"]) > 0
        assert first.result().status_code == 204
