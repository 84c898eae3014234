"""Keys over HTTP: made by who may, shown once, listed without what would let anybody in, revoked for good."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs.keys import create_key
from models.types import Scope
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, scalar

Sessions = sessionmaker[Session]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def key_of(sessions: Sessions, tenant: str = TENANT, *scopes: Scope) -> str:
    with sessions.begin() as session:
        return create_key(session, name="by the test", tenant=tenant, scopes=scopes or Scope).key


@pytest.fixture
def admin(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    """A client whose key may do everything."""
    with TestClient(create_app(settings), headers=bearer(key_of(sessions))) as client:
        yield client


def make(admin: TestClient, **changes: Any) -> dict[str, Any]:
    answer = admin.post("/v1/api-keys", json={"name": "batch jobs"} | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/api-keys/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    return made


def test_a_key_is_shown_once_and_works_as_its_scopes_say(admin: TestClient, sessions: Sessions) -> None:
    made = make(admin, scopes=["read"], requests_per_minute=100, expires_in_s=3600)
    key = made.pop("key")
    assert key.startswith(made["hint"])
    assert made["scopes"] == ["read"]
    assert made["requests_per_minute"] == 100
    assert made["expires_at"] > made["created_at"]
    assert (made["last_used_at"], made["revoked_at"]) == (None, None)
    assert admin.get("/v1/workers", headers=bearer(key)).status_code == 200
    assert admin.post("/v1/jobs", headers=bearer(key), json={}).status_code == 403
    shown = admin.get(f"/v1/api-keys/{made['id']}")
    assert shown.json() == made
    listed = admin.get("/v1/api-keys")
    sha256 = scalar(sessions, "SELECT sha256 FROM api_keys ORDER BY id DESC LIMIT 1")
    for text in (shown.text, listed.text):
        assert key not in text
        assert sha256 not in text


def test_a_key_that_says_no_more_than_its_name_submits_and_reads(admin: TestClient) -> None:
    made = make(admin)
    assert made["scopes"] == ["submit", "read"]
    assert (made["requests_per_minute"], made["expires_at"]) == (None, None)


def test_keys_are_listed_in_pages_newest_first_and_only_ones_own(
    admin: TestClient, sessions: Sessions
) -> None:
    names = [make(admin, name=f"key {number}")["name"] for number in range(4)]
    foreign = key_of(sessions, "somebody else")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = admin.get("/v1/api-keys", params=query).json()
        assert len(page["items"]) <= 2
        seen += [item["name"] for item in page["items"]]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    assert seen == [*reversed(names), "by the test"]
    (other,) = admin.get("/v1/api-keys", headers=bearer(foreign)).json()["items"]
    unknown = admin.get("/v1/api-keys/key_" + "0" * 32)
    for wire_id in (other["id"], "key_1", "img_" + "0" * 32):
        for answer in (admin.get(f"/v1/api-keys/{wire_id}"), admin.delete(f"/v1/api-keys/{wire_id}")):
            assert assert_problem(answer, 404, "not-found")["detail"] == unknown.json()["detail"]
    assert admin.get("/v1/workers", headers=bearer(foreign)).status_code == 200


@pytest.mark.parametrize("scopes", [[Scope.SUBMIT, Scope.READ], [Scope.READ]])
def test_keys_are_managed_by_administrators_alone(
    api: TestClient, sessions: Sessions, scopes: list[Scope]
) -> None:
    held = bearer(key_of(sessions, TENANT, *scopes))
    before = scalar(sessions, "SELECT count(*) FROM api_keys")
    for answer in (
        api.post("/v1/api-keys", json={"name": "mine", "scopes": ["admin"]}, headers=held),
        api.get("/v1/api-keys", headers=held),
        api.get("/v1/api-keys/key_" + "0" * 32, headers=held),
        api.delete("/v1/api-keys/key_" + "0" * 32, headers=held),
    ):
        assert_problem(answer, 403, "insufficient-scope")
    assert scalar(sessions, "SELECT count(*) FROM api_keys") == before


def test_a_revoked_key_is_refused_and_its_row_stays(admin: TestClient) -> None:
    made = make(admin)
    here = f"/v1/api-keys/{made['id']}"
    assert admin.delete(here).status_code == 204
    revoked = admin.get(here).json()
    assert revoked["revoked_at"] is not None
    assert admin.delete(here).status_code == 204
    assert admin.get(here).json() == revoked
    assert_problem(admin.get("/v1/workers", headers=bearer(made["key"])), 401, "invalid-key")


def test_the_last_key_that_can_make_keys_is_not_revoked(admin: TestClient, sessions: Sessions) -> None:
    (own,) = admin.get("/v1/api-keys").json()["items"]
    here = f"/v1/api-keys/{own['id']}"
    key_of(sessions, "somebody else")
    ended = make(admin, scopes=["admin"], expires_in_s=1)
    change(sessions, "UPDATE api_keys SET expires_at = now() WHERE expires_at IS NOT NULL")
    assert_problem(admin.delete(here), 409, "last-admin-key")
    assert admin.delete(f"/v1/api-keys/{ended['id']}").status_code == 204
    assert_problem(admin.delete(here), 409, "last-admin-key")
    second = make(admin, scopes=["admin"])
    # a key may even revoke itself
    assert admin.delete(here).status_code == 204
    assert admin.get(here).status_code == 401
    assert admin.get(here, headers=bearer(second["key"])).status_code == 200


def test_of_the_last_two_administrators_revoked_at_once_one_is_left(
    admin: TestClient, sessions: Sessions
) -> None:
    for _ in range(5):
        change(sessions, "UPDATE api_keys SET revoked_at = NULL WHERE name = 'by the test'")
        make(admin, scopes=["admin"])
        both = [item["id"] for item in admin.get("/v1/api-keys").json()["items"] if not item["revoked_at"]]
        assert len(both) == 2
        start = threading.Barrier(2)

        def revoke(wire_id: str, start: threading.Barrier = start) -> int:
            start.wait()
            return admin.delete(f"/v1/api-keys/{wire_id}").status_code

        with ThreadPoolExecutor(2) as pool:
            codes = sorted(pool.map(revoke, both))
        # 401: it was revoked before its own request was looked at
        assert codes in ([204, 409], [204, 401])
        assert scalar(sessions, "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 1
        change(sessions, "UPDATE api_keys SET revoked_at = now() WHERE name <> 'by the test'")


def test_a_key_made_once_more_with_its_idempotency_key_is_shown_without_itself(
    admin: TestClient, sessions: Sessions
) -> None:
    once = {"Idempotency-Key": "key 1"}
    first = admin.post("/v1/api-keys", json={"name": "mine"}, headers=once)
    again = admin.post("/v1/api-keys", json={"scopes": ["submit", "read"], "name": "mine"}, headers=once)
    assert (first.status_code, again.status_code) == (201, 201)
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert first.json()["key"].startswith("lq_")
    assert again.json() == first.json() | {"key": None}
    other = admin.post("/v1/api-keys", json={"name": "another"}, headers=once)
    assert_problem(other, 422, "idempotency-key-reused")
    assert scalar(sessions, "SELECT count(*) FROM api_keys") == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "a", "scopes": ["read"] * 4}, "/scopes"),
        ({"name": "a", "requests_per_minute": 0}, "/requests_per_minute"),
        ({"name": "a", "requests_per_minute": True}, "/requests_per_minute"),
        ({"name": "a", "requests_per_minute": 10**12}, "/requests_per_minute"),
        ({"name": "a", "expires_in_s": 0}, "/expires_in_s"),
        ({"name": "a", "expires_in_s": 10**15}, "/expires_in_s"),
        ({"name": "a", "tenant": "somebody else"}, "/tenant"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(
    admin: TestClient, sessions: Sessions, body: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(admin.post("/v1/api-keys", json=body), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert scalar(sessions, "SELECT count(*) FROM api_keys") == 1


def test_what_is_no_small_json_is_refused(admin: TestClient) -> None:
    for content, headers, status, code in (
        (b"{", {}, 400, "malformed-body"),
        (b'{"name": "\xff"}', {}, 400, "malformed-body"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b" " * 100_000, {}, 413, "body-too-large"),
        (b"[]", {}, 422, "invalid-request"),
    ):
        given = {"Content-Type": "application/json"} | headers
        assert_problem(admin.post("/v1/api-keys", content=content, headers=given), status, code)
    for token in ("x", "!" * 22, "a" * 23, "\u00e4", "A" * 200):
        assert_problem(admin.get("/v1/api-keys", params={"page_token": token}), 422, "invalid-request")
