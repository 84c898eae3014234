"""Webhook endpoints over HTTP: made, verified by their receiver, changed, deleted, and nobody else's."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from api.app import create_app
from api.settings import ApiSettings
from jobs.keys import create_key
from models.types import Scope
from tests.receiver import Receiver
from tests.webhooks import HERE, add, end_job, settled, submit

Sessions = sessionmaker[Session]
NOBODY = f"{HERE}/whe_{'0' * 32}"


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"egress_allowed": ["127.0.0.1:*"]})


def test_an_endpoint_is_verified_as_it_is_made_and_shows_its_secret_once(
    api: TestClient, receiver: Receiver
) -> None:
    answer = api.post(HERE, json={"url": receiver.url(), "description": "ours"})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{HERE}/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (made["state"], made["state_reason"], made["description"]) == ("enabled", None, "ours")
    [challenge] = receiver.challenges
    assert (
        Webhook(made["secret"]).verify(challenge.body, dict(challenge.headers))["data"]["endpoint_id"]
        == made["id"]
    )
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert api.get(answer.headers["Location"]).json() == shown
    assert api.get(HERE).json() == {"items": [shown], "next_page_token": None}


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (lambda challenge: challenge.encode() + b"\n", "enabled"),
        (lambda challenge: json.dumps(challenge).encode(), "enabled"),
        (lambda _: json.dumps({"challenge": "another"}).encode(), "pending"),
        (lambda _: json.dumps({"challenge": 7}).encode(), "pending"),
        (lambda _: b"[" * 5_000, "pending"),
        (lambda _: b"\xff\xfe", "pending"),
        (lambda _: b"x" * 1_000_000, "pending"),
        (None, "pending"),
    ],
)
def test_only_the_challenge_enables(said: Any, state: str, api: TestClient, receiver: Receiver) -> None:
    receiver.echoes = said
    made = add(api, receiver.url())
    assert made["state"] == state
    assert (made["state_reason"] is None) == (state == "enabled")


def test_an_endpoint_that_could_not_be_verified_can_be_later(api: TestClient, receiver: Receiver) -> None:
    receiver.echoes = None
    made = add(api, receiver.url())
    assert submit(api, made["id"]).json()["code"] == "webhook-endpoint-not-enabled"
    receiver.echoes = str.encode
    assert api.post(f"{HERE}/{made['id']}/verify").json()["state"] == "enabled"
    assert api.post(f"{HERE}/{made['id']}/verify").json()["state"] == "enabled"
    assert len(receiver.challenges) == 2
    assert submit(api, made["id"]).status_code == 202


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "http://8.8.8.8:22/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://2130706433/",
        "http://[::1]/",
        "http://u:p@example.org/",
        "nothing",
    ],
)
def test_a_url_that_may_not_be_asked_makes_no_endpoint(url: str, api: TestClient) -> None:
    answer = api.post(HERE, json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "url-refused")
    assert answer.json()["errors"][0]["pointer"] == "/url"
    assert api.get(HERE).json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {}),
        ("POST", "", {"url": 7}),
        ("POST", "", {"url": ""}),
        ("POST", "", {"url": "http://example.org/", "secret": "mine"}),
        ("POST", "", {"url": "http://example.org/\x00"}),
        ("POST", "", {"url": "http://example.org/", "description": "\x00"}),
        ("POST", "", {"url": "http://example.org/" + "a" * 2_000}),
        ("PATCH", f"/whe_{'0' * 32}", {"enabled": "yes"}),
        ("PATCH", f"/whe_{'0' * 32}", {"state": "enabled"}),
        ("POST", f"/whe_{'0' * 32}/rotate-secret", {"keep_previous_s": -1}),
        ("POST", f"/whe_{'0' * 32}/rotate-secret", {"keep_previous_s": 10**9}),
        ("POST", f"/whe_{'0' * 32}/rotate-secret", {"keep_previous_s": False}),
    ],
)
def test_bad_fields_are_refused(method: str, path: str, body: Any, api: TestClient) -> None:
    answer = api.request(method, HERE + path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_bodies_that_are_no_small_json_are_refused(api: TestClient) -> None:
    def code(content: bytes, media_type: str = "application/json") -> Any:
        return api.post(HERE, content=content, headers={"Content-Type": media_type}).json()["code"]

    assert code(b"{") == "malformed-body"
    assert code(b"{}", "text/plain") == "unsupported-media-type"
    assert code(b'{"url": "' + b"a" * 100_000 + b'"}') == "body-too-large"


def test_another_url_is_verified_at_once(api: TestClient, receiver: Receiver) -> None:
    endpoint = add(api, receiver.url())
    changed = api.patch(
        f"{HERE}/{endpoint['id']}", json={"url": receiver.url("/new"), "description": "b"}
    ).json()
    assert (changed["state"], changed["url"], changed["description"]) == (
        "enabled",
        receiver.url("/new"),
        "b",
    )
    assert [challenge.path for challenge in receiver.challenges] == ["/in", "/new"]
    receiver.echoes = None
    assert (
        api.patch(f"{HERE}/{endpoint['id']}", json={"url": receiver.url("/last")}).json()["state"]
        == "pending"
    )
    refused = api.patch(f"{HERE}/{endpoint['id']}", json={"url": "http://10.0.0.1/"})
    assert refused.json()["code"] == "url-refused"


def test_a_deleted_endpoint_is_unknown(api: TestClient, receiver: Receiver) -> None:
    endpoint = add(api, receiver.url())
    here = f"{HERE}/{endpoint['id']}"
    assert api.delete(here).status_code == 204
    assert api.get(HERE).json()["items"] == []
    assert api.get(here).status_code == api.delete(here).status_code == 404
    assert submit(api, endpoint["id"]).json()["code"] == "unknown-webhook-endpoint"


def test_a_tenant_has_so_many_endpoints_and_pages_of_them(settings: ApiSettings, key: str) -> None:
    limited = settings.model_copy(update={"max_tenant_webhook_endpoints": 3})
    with (
        TestClient(create_app(limited), headers={"Authorization": f"Bearer {key}"}) as api,
        Receiver.listening() as receiver,
    ):
        made = [add(api, receiver.url())["id"] for _ in range(3)]
        refused = api.post(HERE, json={"url": receiver.url()})
        assert (refused.status_code, refused.json()["code"]) == (422, "too-many-webhook-endpoints")
        page = api.get(HERE, params={"limit": 2}).json()
        rest = api.get(HERE, params={"limit": 2, "page_token": page["next_page_token"]}).json()
        assert [one["id"] for one in page["items"] + rest["items"]] == made[::-1]
        assert rest["next_page_token"] is None
        assert api.get(HERE, params={"page_token": "?"}).json()["code"] == "invalid-request"


def test_another_tenants_endpoint_is_answered_exactly_as_an_unknown_one(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    end_job(api, sessions, endpoint["id"])
    delivery = settled(api, endpoint)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    headers = {"Authorization": f"Bearer {foreign}"}
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("POST", "/verify", None),
        ("POST", "/rotate-secret", {}),
        ("GET", "/deliveries", None),
        ("POST", f"/deliveries/{delivery['id']}/redeliver", None),
    ):
        theirs = api.request(method, f"{HERE}/{endpoint['id']}{path}", json=body, headers=headers)
        unknown = api.request(method, f"{NOBODY}{path}", json=body, headers=headers)
        assert theirs.status_code == 404, (method, path)
        assert theirs.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
    assert api.get(HERE, headers=headers).json()["items"] == []
    job = {"type": "embedding", "input": {"texts": ["a"]}, "webhook": {"endpoint_id": endpoint["id"]}}
    refused = api.post("/v1/jobs", json=job, headers=headers).json()
    assert (refused["code"], refused["errors"][0]["pointer"]) == (
        "unknown-webhook-endpoint",
        "/webhook/endpoint_id",
    )


def test_a_key_that_may_only_read_changes_nothing(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    with sessions.begin() as session:
        reading = create_key(session, name="reader", tenant="tests", scopes=[Scope.READ]).key
    headers = {"Authorization": f"Bearer {reading}"}
    assert api.get(f"{HERE}/{endpoint['id']}", headers=headers).status_code == 200
    for method, path in (
        ("POST", HERE),
        ("DELETE", f"{HERE}/{endpoint['id']}"),
        ("POST", f"{NOBODY}/verify"),
    ):
        assert api.request(method, path, headers=headers).json()["code"] == "insufficient-scope"


def test_an_endpoint_is_made_once_for_a_key_and_its_secret_shown_once(
    api: TestClient, receiver: Receiver
) -> None:
    once = {"Idempotency-Key": "an endpoint"}
    first = add(api, receiver.url(), **once)
    answer = api.post(HERE, json={"url": receiver.url()}, headers=once)
    assert answer.json() == first | {"secret": None}
    assert answer.headers["Idempotency-Replayed"] == "true"
    other = api.post(HERE, json={"url": receiver.url("/other")}, headers=once)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(receiver.challenges) == 1


def test_posts_at_the_same_time_with_one_key_make_one_endpoint(api: TestClient, receiver: Receiver) -> None:
    once = {"Idempotency-Key": "at once"}
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add(api, receiver.url(), **once), range(8)))
    assert len({one["id"] for one in made}) == 1
    assert sum(one["secret"] is not None for one in made) == 1
