"""The stream of a page: which of its topics changed, to whom it concerns, and how it ends."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard import live
from api.dashboard.live import Follower, Hub, Topic
from api.schemas.ids import job_id
from api.settings import ApiSettings
from jobs import changes
from models.session import async_sessions
from models.types import Role
from tests.dashboard import add_account, sign_in
from tests.faults import change
from tests.integration.test_history import add_jobs
from tests.integration.test_plans import nodes, plan_of
from tests.ledger import TENANT, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
ACCOUNT = uuid.UUID(int=5)


class Page:
    """One that is open, and what it hears."""

    def __init__(self, hub: Hub, sessions: async_sessionmaker[AsyncSession], *topics: Topic) -> None:
        self.gone = asyncio.Event()
        self.closed = False
        self.signed_in = True
        self.hub = hub
        self.sessions = sessions
        self.topics = frozenset(topics)

    def follow(self, *, returns: bool = False) -> AsyncIterator[bytes]:
        async def receive() -> dict[str, Any]:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def is_signed_in() -> bool:
            return self.signed_in

        return live.follow(
            self.hub,
            Request({"type": "http"}, receive),
            self.sessions,
            Follower(ACCOUNT, self.topics),
            returns=returns,
            is_closed=lambda: self.closed,
            is_signed_in=is_signed_in,
        )


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    made = async_sessions(database_url)
    try:
        yield made
    finally:
        await made.kw["bind"].dispose()


async def hear(events: AsyncIterator[bytes]) -> bytes:
    return await asyncio.wait_for(anext(events), 10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TICK_SECONDS", 0.02)


def heard(*topics: str) -> bytes:
    return b"".join(b"event: changed\ndata: %s\n\n" % topic.encode() for topic in topics)


def test_a_page_hears_what_changed_of_its_tenant_and_of_no_other(
    sessions: Sessions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = submit_texts(sessions)
    # as if that were long ago
    monkeypatch.setattr(changes, "LATELY", text("SELECT false"))

    async def run() -> None:
        async with opened(database_url) as made:
            hub = Hub()
            page = Page(
                hub, made, Topic("jobs", TENANT), Topic(job_id(mine), job_id=mine), Topic("sets", TENANT)
            )
            events = page.follow()
            # whoever comes for the first time is told nothing
            assert await hear(events) == b"retry: 2000\nid: 1\n\n"
            told = asyncio.ensure_future(hear(events))
            await asyncio.to_thread(submit_texts, sessions, tenant="another")
            await asyncio.sleep(0.3)
            assert not told.done()
            await asyncio.to_thread(
                change, sessions, "UPDATE jobs SET state = 'running' WHERE id = :id", id=mine
            )
            assert await told in {heard(job_id(mine), "jobs"), heard("jobs"), heard(job_id(mine))}
            page.gone.set()

    asyncio.run(run())


def test_a_browser_that_returns_or_may_have_missed_something_hears_of_all_its_topics(
    sessions: Sessions, database_url: str
) -> None:
    async def run() -> None:
        async with opened(database_url) as made:
            page = Page(Hub(), made, Topic("audit"), Topic("workers"))
            events = page.follow(returns=True)
            assert await hear(events) == b"retry: 2000\nid: 1\n\n" + heard("audit", "workers")
            await asyncio.to_thread(submit_texts, sessions)
            assert heard("audit", "workers") in await hear(page.follow())

    asyncio.run(run())


def test_a_stream_ends_with_its_session_with_its_process_and_with_its_page(
    sessions: Sessions, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    endings: list[Callable[[Page], Any]] = [
        lambda page: setattr(page, "signed_in", False),
        lambda page: setattr(page, "closed", True),
        lambda page: page.gone.set(),
    ]

    async def run(end: Callable[[Page], Any]) -> None:
        async with opened(database_url) as made:
            hub = Hub()
            page = Page(hub, made, Topic("audit"))
            events = page.follow()
            await hear(events)
            # the connection is shown to stand
            assert (await hear(events)).startswith(b":")
            assert len(hub) == 1
            end(page)
            monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
            # what was under way is at most one more sign that it stands
            assert len([said async for said in events]) <= 1
            assert len(hub) == 0

    for end in endings:
        asyncio.run(run(end))
        monkeypatch.setattr(live, "CHECK_SECONDS", 60.0)


def test_all_pages_are_told_by_one_look_and_none_is_made_when_nobody_listens(database_url: str) -> None:
    looks = []

    class Counting(Hub):
        async def _look(self, session: AsyncSession) -> None:
            looks.append(len(self))
            await super()._look(session)

    async def run() -> None:
        async with opened(database_url) as made:
            hub = Counting()
            pages = [Page(hub, made, Topic("jobs"), Topic("queues")) for _ in range(5)]
            streams = [page.follow() for page in pages]
            for stream in streams:
                await hear(stream)
            await asyncio.sleep(0.3)
            assert set(looks) <= {1, 2, 3, 4, 5}
            assert 1 <= len(looks) <= 0.5 / live.TICK_SECONDS
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
            await asyncio.sleep(0.1)
            before = len(looks)
            await asyncio.sleep(0.2)
            assert len(looks) == before

    asyncio.run(run())


def test_only_what_a_visitor_sees_can_be_followed(
    settings: ApiSettings, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit_texts(sessions)
    add_account(sessions, "one@example.org", Role.VIEWER, TENANT)
    add_account(sessions, "other@example.org", Role.ADMIN, "another")
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    with TestClient(create_app(settings), base_url="https://testserver") as client:
        sign_in(client, "other@example.org")
        for topic, status in (
            (f"job:{job_id(job)}", 404),
            (f"job:job_{'0' * 32}", 404),
            ("job:x", 404),
            ("keys", 422),
        ):
            assert client.get(f"/admin/live?topic={topic}").status_code == status, topic
        assert client.get("/admin/live").status_code == 422
        assert client.get("/admin/live?" + "topic=jobs&" * 21).status_code == 422
        monkeypatch.setattr(live, "MOST_OF_ACCOUNT", 0)
        assert client.get("/admin/live?topic=jobs").status_code == 503
        monkeypatch.setattr(live, "MOST_OF_ACCOUNT", 1)
        # a stream that ends at once, since its session is looked for and was ended meanwhile
        monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
        sign_in(client, "one@example.org")
        change(sessions, "UPDATE account_sessions SET ends_at = now() + interval '1 second'")
        answer = client.get(f"/admin/live?topic=job:{job_id(job)}&topic=jobs")
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (
            200,
            "text/event-stream",
        )
        assert answer.text.startswith("retry: 2000\nid: 1\n\nevent: changed\n")


def test_every_mark_stays_as_it_is_until_something_happens(sessions: Sessions) -> None:
    job = submit_texts(sessions, 2)
    values, statements = {"tenant": TENANT}, changes.OF_ALL | changes.OF_ONE

    def marks() -> dict[str, Any]:
        with sessions() as session:
            found = {topic: session.scalar(asked, values) for topic, asked in statements.items()}
            return found | {"job": session.scalar(changes.OF_JOB, {"job_id": job})}

    def changed(before: dict[str, Any]) -> set[str]:
        return {topic for topic, mark in marks().items() if mark != before[topic]}

    before = marks()
    assert changed(before) == set()
    held = claim(sessions)
    assert held is not None
    assert changed(before) == {"overview", "jobs", "queues", "job"}
    before = marks()
    complete(sessions, held)
    assert changed(before) >= {"overview", "jobs", "job"}
    before = marks()
    change(sessions, "INSERT INTO queues (model, paused_at) VALUES ('another', now())")
    change(sessions, "INSERT INTO image_sets (tenant, name) VALUES (:tenant, 'set')", **values)
    change(
        sessions,
        "INSERT INTO audit_entries (actor, tenant, verb, target) VALUES ('a', :tenant, 'b', 'c')",
        **values,
    )
    change(sessions, "INSERT INTO workers (id, hostname, model, state) VALUES (uuidv7(), 'h', 'm', 'online')")
    change(
        sessions,
        """INSERT INTO webhook_endpoints (tenant, url, destination, secret)
           VALUES (:tenant, 'https://example.org', 'example.org:443', 'x')""",
        **values,
    )
    assert changed(before) == {"overview", "queues", "sets", "audit", "workers", "webhooks"}


def test_a_mark_reads_few_rows_however_many_jobs_there_are(sessions: Sessions) -> None:
    add_jobs(sessions, 50_000, scalar(sessions, "SELECT now()"), every_s=-1)
    change(
        sessions,
        """INSERT INTO jobs (tenant, type, model, state, options, total)
           SELECT :tenant, 'embedding', 'm', 'running', '{}', 1 FROM generate_series(1, 5000)""",
        tenant=TENANT,
    )
    change(sessions, "ANALYZE jobs")
    for topic in ("jobs", "overview"):
        for statements in (changes.OF_ALL, changes.OF_ONE):
            statement = text(statements[topic].text)
            with sessions() as session:
                values = {"tenant": TENANT} if ":tenant" in statement.text else {}
                plan = list(nodes(plan_of(session, statement.text, values)))
            scans = [node for node in plan if node.get("Relation Name") == "jobs"]
            assert all("Index" in node["Node Type"] for node in scans)
            assert sum(node["Actual Rows"] for node in scans) <= 2 * changes.ROWS
    with sessions() as session:
        plan = list(nodes(plan_of(session, changes.LATELY.text, {})))
    assert sum(node["Actual Rows"] for node in plan if node.get("Relation Name") == "jobs") <= 2
