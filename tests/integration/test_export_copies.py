"""Copies of results that parts are taken from: how long they stay, and how many are made at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import retention
from jobs.blobs import BlobStore
from jobs.keys import create_key
from jobs.objects import put_object
from tests.faults import change, do
from tests.integration.test_broker import wait_until
from tests.integration.test_exports import FILES, embedding, fetch
from tests.ledger import TENANT

Sessions = sessionmaker[Session]


def make_key(sessions: Sessions, tenant: str) -> str:
    with sessions.begin() as session:
        return create_key(session, name="other", tenant=tenant).key


@contextmanager
def service(settings: ApiSettings, key: str, **changes: Any) -> Iterator[TestClient]:
    """The API with other settings."""
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def may_go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No copy is made before it is set, and none is waited for."""
    wanted = threading.Event()

    def put_slowly(*given: Any) -> Any:
        assert wanted.wait(30)
        return put_object(*given)

    monkeypatch.setattr("api.exports.exporter.put_object", put_slowly)
    monkeypatch.setattr("api.exports.exporter.WAIT_SECONDS", 0.1)
    return wanted


def test_the_copy_that_parts_are_taken_from_goes_with_the_results(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    url, _ = embedding(sessions)
    assert api.get(url, params={"format": "npz"}, headers={"Range": "bytes=0-9"}).status_code == 206
    assert any(blobs.folder.rglob("copies/*"))
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 hour'")
    while do(sessions, lambda session: retention.expire_results(session, blobs)):
        pass
    assert not any(blobs.folder.rglob("copies/*"))
    for name in FILES:
        gone = api.get(url, params={"format": name})
        assert (gone.status_code, gone.json()["code"]) == (410, "results-expired")


def test_a_copy_that_is_finished_after_the_results_went_does_not_stay(
    api: TestClient, sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = embedding(sessions)

    def put_late(*given: Any) -> Any:
        spans = put_object(*given)
        change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 hour'")
        return spans

    monkeypatch.setattr("api.exports.exporter.put_object", put_late)
    late = api.get(url, params={"format": "npz"}, headers={"Range": "bytes=0-9"})
    assert (late.status_code, late.json()["code"]) == (410, "results-expired")
    assert not any(blobs.folder.rglob("copies/*"))


def test_a_copy_that_takes_long_is_finished_though_nobody_waits_for_it(
    api: TestClient, sessions: Sessions, may_go_on: threading.Event
) -> None:
    url, _ = embedding(sessions)
    for _ in range(2):
        early = api.get(url, params={"format": "npz"}, headers={"Range": "bytes=0-9"})
        assert (early.status_code, early.json()["code"]) == (503, "part-not-ready")
        assert int(early.headers["Retry-After"]) > 0
    whole = fetch(api, url, "npz")
    may_go_on.set()
    until = time.monotonic() + 30
    while api.get(url, params={"format": "npz"}, headers={"Range": "bytes=0-9"}).content != whole[:10]:
        assert time.monotonic() < until


def test_of_a_tenants_copies_those_are_kept_that_were_used_last(
    settings: ApiSettings, key: str, sessions: Sessions, blobs: BlobStore
) -> None:
    urls = [embedding(sessions)[0] for _ in range(3)]
    stranger = make_key(sessions, "somebody else")
    part = {"Range": "bytes=0-9"}

    def copies() -> int:
        return len(list(blobs.folder.rglob("copies/*")))

    with service(settings, key) as api:
        size = len(fetch(api, urls[0], "npz"))
    with service(settings, key, max_tenant_copy_bytes=int(2.5 * size)) as api:

        def ask(url: str, **headers: str) -> Any:
            answer = api.get(url, params={"format": "npz"}, headers=headers)
            assert answer.status_code in {200, 206}
            return answer

        whole = ask(urls[0]).content
        assert [ask(url, **part).content for url in urls[:2]] == [whole[:10]] * 2
        ask(urls[0], **part)
        ask(urls[2], **part)
        assert copies() == 2
        # streamed again: the one that was not used since
        assert ["Content-Length" in ask(url).headers for url in urls] == [True, False, True]
        assert ask(urls[1], **part).content == whole[:10]
        assert copies() == 2
        assert api.get(urls[0], headers={"Authorization": f"Bearer {stranger}"}).status_code == 404
    with service(settings, key, max_tenant_copy_bytes=0) as api:
        # one that is too large is kept until the next
        assert api.get(urls[0], params={"format": "parquet"}, headers=part).status_code == 206
        assert copies() == 1


def test_a_key_and_a_tenant_fetch_no_more_files_at_a_time_than_they_may(
    settings: ApiSettings, key: str, sessions: Sessions, may_go_on: threading.Event
) -> None:
    url, _ = embedding(sessions)
    another = make_key(sessions, TENANT)
    part = {"Range": "bytes=0-9"}
    with service(settings, key, max_key_exports=1, max_exports=4) as api:

        def ask(name: str, **headers: str) -> tuple[int, str | None]:
            answer = api.get(url, params={"format": name}, headers=headers)
            assert ("Retry-After" in answer.headers) == (answer.status_code != 200)
            return answer.status_code, None if answer.status_code == 200 else answer.json()["code"]

        # what was fetched is over
        assert [ask("ndjson") for _ in range(3)] == [(200, None)] * 3
        assert ask("npz", **part) == (503, "part-not-ready")
        # the copy counts until it is made, and is waited for as before
        assert ask("ndjson") == ask("parquet", **part) == (429, "too-many-exports")
        assert ask("npz", **part) == (503, "part-not-ready")
        assert ask("ndjson", Authorization=f"Bearer {another}") == (200, None)
        assert ask("parquet", Authorization=f"Bearer {another}", **part) == (503, "part-not-ready")
        # the tenant has its half by now, whatever key it makes
        third = make_key(sessions, TENANT)
        assert ask("ndjson", Authorization=f"Bearer {third}") == (429, "too-many-exports")
        may_go_on.set()
        wait_until(lambda: ask("ndjson") == (200, None))


def test_copies_are_made_of_tenants_in_turn_and_few_of_one_wait(
    settings: ApiSettings, key: str, sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = embedding(sessions)
    other_url, _ = embedding(sessions, tenant="somebody else")
    other = {"Authorization": f"Bearer {make_key(sessions, 'somebody else')}"}
    next_one, made = threading.Semaphore(0), []

    def put_in_order(*given: Any) -> Any:
        made.append(given[1].tenant)
        assert next_one.acquire(timeout=30)
        return put_object(*given)

    monkeypatch.setattr("api.exports.exporter.put_object", put_in_order)
    monkeypatch.setattr("api.exports.exporter.WAIT_SECONDS", 0.1)
    with service(settings, key) as api:

        def ask(url: str, name: str, **headers: str) -> tuple[int, str]:
            answer = api.get(url, params={"format": name}, headers={"Range": "bytes=0-9", **headers})
            return answer.status_code, answer.json()["code"]

        for name in FILES:
            assert ask(url, name) == (503, "part-not-ready")
        another, _ = embedding(sessions)
        assert ask(another, "npz") == (429, "too-many-exports")
        # one that is being made may be asked for again
        assert ask(url, "npz") == (503, "part-not-ready")
        assert ask(other_url, "npz", **other) == (503, "part-not-ready")
        for _ in range(4):
            next_one.release()
        wait_until(lambda: len(list(blobs.folder.rglob("copies/*"))) == 4)
    # whose second one waited before the other tenant came
    assert made == [TENANT, TENANT, "somebody else", TENANT]
