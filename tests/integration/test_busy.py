"""Requests that wait for what others hold: not for long, and never so many that other tenants wait too."""

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


@pytest.mark.parametrize("send", [delete, retry])
def test_what_waits_of_one_tenant_keeps_no_other_from_a_connection(
    api: TestClient,
    sessions: Sessions,
    link: str,
    other: dict[str, str],
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.writing.LOCK_SECONDS", 60)
    with ThreadPoolExecutor(MANY) as pool:
        with held(sessions, link):
            waiting = [pool.submit(send, api, link) for _ in range(MANY)]
            wait_for_waiters(sessions, 3)
            assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
            # and its own that needs nothing of that
            assert api.post("/v1/jobs", json=TEXTS, headers={"Idempotency-Key": "own"}).status_code == 202
            assert scalar(sessions, LOCK_WAITERS) == 3
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
            wait_for_waiters(sessions, 3)
            assert api.post("/v1/jobs", json=TEXTS, headers=other).status_code == 202
            assert scalar(sessions, LOCK_WAITERS) == 3
        assert {sent.result().status_code for sent in waiting} == {202}


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
    app: Any = api.app
    app.state.services = replace(app.state.services, slow=Turns(1, wait_seconds=0.2))
    with ThreadPoolExecutor(1) as pool:
        with held(sessions, link):
            first = pool.submit(api.delete, link)
            wait_for_waiters(sessions)
            refused = api.delete(link)
            assert_problem(refused, 503, "busy")
            assert int(refused.headers["Retry-After"]) > 0
        assert first.result().status_code == 204
