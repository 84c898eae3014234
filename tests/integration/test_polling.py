"""Polls that cost little: 304 for what the client knows; long polls, answered when there is news."""

import asyncio
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.orm import Session, sessionmaker
from starlette.requests import ClientDisconnect

from api.app import create_app
from api.settings import ApiSettings
from api.waiting import Standing, Waiting
from cli.processes import api_argv
from embedded.stack import Stack
from jobs.keys import create_key
from models.session import async_sessions, sync_sessions
from tests.acceptance.conftest import free_port
from tests.ledger import claim, complete, submit_texts

JOB = {"type": "embedding", "input": {"texts": ["a ring"]}}
PATIENT = {"Prefer": "wait=20"}


def submit(api: TestClient) -> str:
    link: str = api.post("/v1/jobs", json=JOB).json()["links"]["self"]
    return link


def finish(sessions: sessionmaker[Session]) -> None:
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)


@contextmanager
def later(act: Callable[[], object], seconds: float = 0.3) -> Iterator[None]:
    """Do something while the block waits."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def elapsed(since: float) -> float:
    return time.monotonic() - since


def test_a_poll_of_what_the_client_knows_is_answered_with_304(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    link = submit(api)
    etag = api.get(link).headers["ETag"]
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        unchanged = api.get(link, headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["ETag"] == etag
        assert unchanged.headers["Cache-Control"] == "private, no-cache"
        assert int(unchanged.headers["Retry-After"]) > 0
    assert claim(sessions) is not None
    changed = api.get(link, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    assert changed.headers["ETag"] != etag


def test_a_long_poll_is_answered_when_the_job_is_done(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    link = submit(api)
    started = time.monotonic()
    with later(lambda: finish(sessions)):
        done = api.get(link, headers=PATIENT)
    assert (done.status_code, done.json()["done"]) == (200, True)
    assert done.headers["Preference-Applied"] == "wait=20"
    assert "Retry-After" not in done.headers
    assert 0.3 <= elapsed(started) < 5
    started = time.monotonic()
    again = api.get(link, headers={**PATIENT, "If-None-Match": done.headers["ETag"]})
    assert again.status_code == 304, "what is done never changes: nothing to wait for"
    assert elapsed(started) < 5


def test_with_an_etag_a_long_poll_is_answered_at_the_first_change(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    link = submit(api)
    known = {"If-None-Match": api.get(link).headers["ETag"]}
    with later(lambda: claim(sessions)):
        changed = api.get(link, headers=PATIENT | known)
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    started = time.monotonic()
    stale = api.get(link, headers=PATIENT | known)
    assert stale.status_code == 200, "what the client knows changed before it asked"
    assert elapsed(started) < 5


def test_a_worker_that_comes_online_is_news(api: TestClient, sessions: sessionmaker[Session]) -> None:
    link = submit(api)
    known = {"If-None-Match": api.get(link).headers["ETag"]}

    def come_online() -> None:
        with sessions.begin() as session:
            session.connection().exec_driver_sql(
                "INSERT INTO workers (id, hostname, model, state) SELECT gen_random_uuid(), 'here', model,"
                " 'online' FROM jobs"
            )

    with later(come_online):
        changed = api.get(link, headers=PATIENT | known)
    assert (changed.status_code, changed.json()["workers_online"]) == (200, 1)


def test_a_long_poll_whose_time_is_over_is_answered_with_what_there_is(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    link = submit(api)
    etag = api.get(link).headers["ETag"]
    started = time.monotonic()
    unchanged = api.get(link, headers={"Prefer": "wait=1", "If-None-Match": etag})
    assert elapsed(started) >= 1
    assert (unchanged.status_code, unchanged.headers["Preference-Applied"]) == (304, "wait=1")
    with later(lambda: claim(sessions)):
        current = api.get(link, headers={"Prefer": "wait=1"})
    assert (current.status_code, current.json()["state"]) == (200, "running")
    assert "Retry-After" in current.headers


def test_a_submit_that_waits_is_answered_with_the_ended_job_or_with_202(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    accepted = api.post("/v1/jobs", json=JOB, headers={"Prefer": "wait=1"})
    assert (accepted.status_code, accepted.json()["state"]) == (202, "queued")
    assert "Retry-After" in accepted.headers
    finish(sessions)
    with later(lambda: finish(sessions), seconds=0.5):
        ended = api.post("/v1/jobs", json=JOB, headers=PATIENT)
    assert (ended.status_code, ended.json()["state"]) == (200, "succeeded")
    assert ended.headers["Location"] == ended.json()["links"]["self"]
    assert ended.headers["Preference-Applied"] == "wait=20"
    assert "Retry-After" not in ended.headers


def test_nobody_waits_for_a_job_of_another_tenant(api: TestClient, sessions: sessionmaker[Session]) -> None:
    link = submit(api)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    started = time.monotonic()
    answer = api.get(link, headers={"Authorization": f"Bearer {foreign}"} | PATIENT)
    assert answer.status_code == 404
    assert elapsed(started) < 5


def test_a_wait_beyond_the_bound_is_cut_and_one_too_many_is_not_granted(
    settings: ApiSettings, key: str
) -> None:
    for change, applied in (({"max_wait_seconds": 1}, "wait=1"), ({"max_waiters": 0}, None)):
        app = create_app(settings.model_copy(update=change))
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as api:
            link = submit(api)
            started = time.monotonic()
            answer = api.get(link, headers=PATIENT)
            assert (answer.status_code, answer.headers.get("Preference-Applied")) == (200, applied)
            assert elapsed(started) < 5


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real server in this process; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join()


def wait_for_waiters(app: FastAPI, count: int) -> None:
    until = time.monotonic() + 10
    while len(app.state.services.waiting) != count:
        assert time.monotonic() < until, len(app.state.services.waiting)
        time.sleep(0.01)


def test_those_who_wait_hold_no_connection_and_those_who_leave_are_forgotten(
    settings: ApiSettings, key: str, sessions: sessionmaker[Session]
) -> None:
    app = create_app(settings)
    headers = {"Authorization": f"Bearer {key}"} | PATIENT
    job = submit_texts(sessions)
    with served(app) as address, ThreadPoolExecutor(60) as pool:
        link = f"{address}/v1/jobs/job_{job.hex}"
        # three times as many as the pool has connections
        polls: list[Future[httpx.Response]] = [
            pool.submit(httpx.get, link, headers=headers, timeout=30) for _ in range(60)
        ]
        wait_for_waiters(app, 60)
        assert app.state.services.sessions.kw["bind"].pool.checkedout() <= 1
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(link, headers=headers, timeout=0.5)
        wait_for_waiters(app, 60)
        finish(sessions)
        assert [poll.result().json()["done"] for poll in polls] == [True] * 60
        wait_for_waiters(app, 0)


@contextmanager
def process_of_the_api(
    settings: ApiSettings, key: str
) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """The API in a process of its own, and a client of it."""
    port = free_port()
    env = {
        **os.environ,
        "LENSQUEUE_DATABASE_URL": settings.database_url,
        "LENSQUEUE_BROKER_URL": settings.broker_url,
        "LENSQUEUE_BLOBS": str(settings.blobs),
    }
    process = subprocess.Popen(api_argv("127.0.0.1", port), env=env, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
        ) as client:
            until = time.monotonic() + 30
            while not _is_alive(client):
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_a_process_that_is_told_to_end_answers_those_who_wait(
    settings: ApiSettings, key: str, sessions: sessionmaker[Session]
) -> None:
    job = submit_texts(sessions)
    with process_of_the_api(settings, key) as (process, client), ThreadPoolExecutor(1) as pool:
        poll = pool.submit(client.get, f"/v1/jobs/job_{job.hex}", headers=PATIENT)
        time.sleep(0.5)
        assert not poll.done()
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        answer = poll.result()
        assert (answer.status_code, answer.json()["state"]) == (200, "queued")
        assert process.wait(timeout=10) in {0, -signal.SIGTERM}
        assert elapsed(started) < 3


def _is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def request(receive: Callable[[], Any] | None = None) -> Request:
    """A request whose client stays, unless told otherwise."""

    async def nothing() -> Any:
        await asyncio.Event().wait()

    return Request({"type": "http", "headers": []}, receive or nothing)


def test_a_thousand_who_wait_cost_one_statement_a_tick_and_nobody_none(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    jobs = [submit_texts(sessions) for _ in range(10)]
    statements: list[str] = []

    async def scenario() -> None:
        made = async_sessions(database_url)
        engine = made.kw["bind"]
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        waiting = Waiting(made, max_waiters=1_000)
        waits = [
            asyncio.create_task(waiting.wait(request(), jobs[number % 10], Standing.is_done, 1))
            for number in range(1_000)
        ]
        await asyncio.sleep(0)
        assert not waiting.has_room
        await asyncio.gather(*waits)
        assert len(waiting) == 0
        ticks = len(statements)
        assert 1 <= ticks <= 20, "20 ticks a second"
        await asyncio.sleep(0.3)
        assert len(statements) <= ticks + 1
        await waiting.close()
        await engine.dispose()

    asyncio.run(scenario())


def test_those_who_wait_outlast_a_database_that_is_lost(
    stack: Stack, database_url: str, sessions: sessionmaker[Session]
) -> None:
    job = submit_texts(sessions)
    held = claim(sessions)
    assert held is not None
    name = make_url(database_url).database
    admin: Engine = sync_sessions(stack.database_url).kw["bind"]

    def allow(connections: bool) -> None:
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
            if not connections:
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                    {"name": name},
                )

    async def scenario() -> None:
        made = async_sessions(database_url)
        waiting = Waiting(made, max_waiters=10)
        wait = asyncio.create_task(waiting.wait(request(), job, Standing.is_done, 30))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(allow, False)
        await asyncio.sleep(0.5)
        assert not wait.done()
        await asyncio.to_thread(allow, True)
        assert await asyncio.to_thread(complete, sessions, held)
        await asyncio.wait_for(wait, 10)
        await waiting.close()
        await made.kw["bind"].dispose()

    try:
        asyncio.run(scenario())
    finally:
        admin.dispose()


def test_a_client_that_is_gone_is_noticed_and_a_job_that_is_gone_is_news(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    job = submit_texts(sessions)

    async def leave() -> Any:
        return {"type": "http.disconnect"}

    async def scenario() -> None:
        made = async_sessions(database_url)
        waiting = Waiting(made, max_waiters=10)
        with pytest.raises(ClientDisconnect):
            await waiting.wait(request(leave), job, Standing.is_done, 30)
        assert len(waiting) == 0
        async with asyncio.timeout(5):
            await waiting.wait(request(), uuid.uuid4(), Standing.is_done, 30)
        await waiting.close()
        assert not waiting.has_room
        await made.kw["bind"].dispose()

    asyncio.run(scenario())
