"""Webhooks end to end: endpoints over HTTP, a real receiver, and the courier of the API process."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook, WebhookVerificationError

from api.app import create_app
from api.courier import delivering, retry_after
from api.settings import ApiSettings
from jobs.deliveries import Share, claim_due
from jobs.keys import create_key
from jobs.leases import complete as complete_work
from models.types import Scope
from tests.faults import change
from tests.integration.test_deliveries import hurry
from tests.ledger import MODEL, claim, complete, results_of, scalar
from tests.receiver import Heard, Receiver

Sessions = sessionmaker[Session]
HERE = "/v1/webhook-endpoints"
NOBODY = f"{HERE}/whe_{'0' * 32}"


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"egress_allowed": ["127.0.0.1:*"]})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.listening() as listening:
        yield listening


def add(api: TestClient, url: str, **headers: str) -> Any:
    answer = api.post(HERE, json={"url": url}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def submit(api: TestClient, endpoint_id: str, **more: Any) -> Any:
    body = {"type": "embedding", "input": {"texts": ["a ring"]}, "webhook": {"endpoint_id": endpoint_id}}
    return api.post("/v1/jobs", json=body | more)


def end_job(api: TestClient, sessions: Sessions, endpoint_id: str) -> Any:
    """A job that has ended, as a poll sees it."""
    job = submit(api, endpoint_id).json()
    held = claim(sessions)
    assert held is not None
    complete(sessions, held)
    return api.get(job["links"]["self"]).json()


def deliveries(api: TestClient, endpoint: Any) -> Any:
    return api.get(f"{HERE}/{endpoint['id']}/deliveries").json()["items"]


def settled(api: TestClient, endpoint: Any, attempts: int = 1) -> Any:
    """The one delivery, once so many tries of it are noted."""
    for _ in range(1500):
        [delivery] = deliveries(api, endpoint)
        if delivery["attempts"] >= attempts:
            return delivery
        threading.Event().wait(0.02)
    raise AssertionError(delivery)


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


def test_the_end_of_a_job_is_told_signed_and_once(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    job = end_job(api, sessions, endpoint["id"])
    assert job["webhook"] == {"endpoint_id": endpoint["id"]}
    [heard] = receiver.wait_for(1)
    headers = dict(heard.headers)
    message = Webhook(endpoint["secret"]).verify(heard.body, headers)
    assert (message["type"], message["data"]["id"], message["data"]["state"]) == (
        "job.ended",
        job["id"],
        "succeeded",
    )
    assert message["data"]["progress"] == {"total": 1, "succeeded": 1, "failed": 0, "dropped": 0}
    assert message["data"]["links"]["self"] == job["links"]["self"]
    assert message["data"]["model"] == MODEL
    assert headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 43 + "=").verify(heard.body, headers)
    delivery = settled(api, endpoint)
    assert (delivery["state"], delivery["job_id"], delivery["next_try_at"]) == ("delivered", job["id"], None)
    assert headers["webhook-id"] == delivery["id"] == delivery["webhook_id"]
    [tried] = delivery["tries"]
    assert (tried["status"], tried["error"]) == (204, None)


def test_a_failed_message_is_sent_again_as_it_was(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    receiver.statuses = [500, 301, 200]
    receiver.headers = {"Location": receiver.url("/elsewhere")}
    endpoint = add(api, receiver.url())
    end_job(api, sessions, endpoint["id"])
    for attempts in (1, 2):
        waiting = settled(api, endpoint, attempts)
        assert waiting["state"] == "pending"
        assert waiting["next_try_at"]
        assert api.get(f"{HERE}/{endpoint['id']}").json()["failing_since"]
        hurry(sessions)
    heard = receiver.wait_for(3)
    assert len({(one.path, one.headers["webhook-id"], one.body) for one in heard}) == 1
    for one in heard:
        Webhook(endpoint["secret"]).verify(one.body, dict(one.headers))
    delivery = settled(api, endpoint, 3)
    assert delivery["state"] == "delivered"
    assert [tried["status"] for tried in delivery["tries"]] == [500, 301, 200]
    assert api.get(f"{HERE}/{endpoint['id']}").json()["failing_since"] is None


def test_a_receiver_that_is_gone_says_so_and_is_told_nothing_more(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    receiver.statuses = [410]
    endpoint = add(api, receiver.url())
    end_job(api, sessions, endpoint["id"])
    assert settled(api, endpoint)["state"] == "failed"
    assert api.get(f"{HERE}/{endpoint['id']}").json()["state"] == "disabled"
    assert submit(api, endpoint["id"]).status_code == 422
    enabled = api.patch(f"{HERE}/{endpoint['id']}", json={"enabled": True}).json()
    assert (enabled["state"], enabled["state_reason"]) == ("enabled", None)


def test_a_receiver_that_is_not_there_is_noted(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    with Receiver.listening() as closing:
        dead = closing.url()
    change(sessions, "UPDATE webhook_endpoints SET url = :url", url=dead)
    end_job(api, sessions, endpoint["id"])
    [tried] = settled(api, endpoint)["tries"]
    assert tried["status"] is None
    assert "ConnectError" in tried["error"]


def test_an_address_that_is_refused_by_now_is_not_asked(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    change(sessions, "UPDATE webhook_endpoints SET url = 'http://127.0.0.2:1/'")
    end_job(api, sessions, endpoint["id"])
    [tried] = settled(api, endpoint)["tries"]
    assert "not public" in tried["error"]


def test_both_secrets_sign_while_the_old_one_is_kept(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    answer = api.post(f"{HERE}/{endpoint['id']}/rotate-secret", json={"keep_previous_s": 60})
    rotated = answer.json()
    assert rotated["secret"] != endpoint["secret"]
    assert rotated["previous_secret_until"]
    assert answer.headers["Cache-Control"] == "no-store"
    end_job(api, sessions, endpoint["id"])
    [heard] = receiver.wait_for(1)
    for secret in (endpoint["secret"], rotated["secret"]):
        Webhook(secret).verify(heard.body, dict(heard.headers))
    last = api.post(f"{HERE}/{endpoint['id']}/rotate-secret", json={"keep_previous_s": 0}).json()
    end_job(api, sessions, endpoint["id"])
    heard = receiver.wait_for(2)[1]
    Webhook(last["secret"]).verify(heard.body, dict(heard.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(rotated["secret"]).verify(heard.body, dict(heard.headers))


def test_a_message_is_sent_once_more_by_the_same_id(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    end_job(api, sessions, endpoint["id"])
    first = settled(api, endpoint)
    answer = api.post(f"{HERE}/{endpoint['id']}/deliveries/{first['id']}/redeliver")
    again = answer.json()
    assert (answer.status_code, again["webhook_id"]) == (202, first["id"])
    assert again["id"] != first["id"]
    heard = receiver.wait_for(2)
    assert len({(one.headers["webhook-id"], one.body) for one in heard}) == 1
    page = api.get(f"{HERE}/{endpoint['id']}/deliveries", params={"limit": 1}).json()
    assert page["items"][0]["id"] == again["id"]
    rest = api.get(
        f"{HERE}/{endpoint['id']}/deliveries", params={"limit": 1, "page_token": page["next_page_token"]}
    ).json()
    assert [rest["items"][0]["id"], rest["next_page_token"]] == [first["id"], None]
    api.patch(f"{HERE}/{endpoint['id']}", json={"enabled": False})
    refused = api.post(f"{HERE}/{endpoint['id']}/deliveries/{first['id']}/redeliver")
    assert (refused.status_code, refused.json()["code"]) == (422, "webhook-endpoint-not-enabled")


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


def test_a_job_is_another_with_another_endpoint(api: TestClient, receiver: Receiver) -> None:
    one, other = (add(api, receiver.url())["id"] for _ in range(2))
    headers = {"Idempotency-Key": "a job"}
    job = {"type": "embedding", "input": {"texts": ["a"]}, "webhook": {"endpoint_id": one}}
    first = api.post("/v1/jobs", json=job, headers=headers)
    # what became of the endpoint meanwhile is no matter of a job that was accepted
    api.patch(f"{HERE}/{one}", json={"enabled": False})
    assert api.post("/v1/jobs", json=job, headers=headers).json()["id"] == first.json()["id"]
    job["webhook"] = {"endpoint_id": other}
    assert api.post("/v1/jobs", json=job, headers=headers).json()["code"] == "idempotency-key-reused"


@pytest.mark.parametrize(
    "endpoint_id", ["", "whe_1", f"whe_{'0' * 32}", f"job_{'0' * 32}", "a\x00b", "x" * 101, 7, None]
)
def test_a_job_for_no_endpoint_is_refused_and_charges_nothing(
    endpoint_id: Any, api: TestClient, sessions: Sessions
) -> None:
    answer = submit(api, endpoint_id)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/webhook/endpoint_id"
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    assert scalar(sessions, "SELECT count(*) FROM flows") == 0


def told(heard: list[Heard]) -> list[str]:
    return [one.message["data"]["id"] for one in heard]


def test_the_loops_of_two_processes_deliver_each_message_once(
    api: TestClient, settings: ApiSettings, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(
                delivering(settings.database_url, settings.egress_rules(), every_seconds=0.01)
            )
        jobs = [end_job(api, sessions, endpoint["id"])["id"] for _ in range(30)]
        receiver.wait_for(30)
        # whoever were to send one again would have by now
        threading.Event().wait(1.5)
    assert sorted(told(receiver.messages)) == sorted(jobs)


def test_what_was_claimed_and_never_sent_is_sent_after_its_lease(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    endpoint = add(api, receiver.url())
    job = end_unsent(api, sessions, endpoint)
    threading.Event().wait(1.5)
    assert receiver.messages == []
    hurry(sessions)
    assert told(receiver.wait_for(1)) == [job["id"]]


def end_unsent(api: TestClient, sessions: Sessions, endpoint: Any) -> Any:
    """A job whose message somebody has claimed, who is no more."""
    job = submit(api, endpoint["id"]).json()
    held = claim(sessions)
    assert held is not None
    with sessions.begin() as session:
        # in one transaction, so that nobody else is first
        complete_work(session, held.token, results_of(held))
        assert len(claim_due(session, [], Share())) == 1
    return job


def test_a_receiver_that_never_answers_holds_up_no_other(
    api: TestClient, receiver: Receiver, sessions: Sessions
) -> None:
    with Receiver.listening() as silent:
        mute, well = add(api, silent.url()), add(api, receiver.url())
        silent.released = threading.Event()
        for _ in range(50):
            end_job(api, sessions, mute["id"])
        job = end_job(api, sessions, well["id"])
        assert told(receiver.wait_for(1, seconds=10)) == [job["id"]]
        assert len(silent.messages) == Share().of_endpoint
        assert {delivery["state"] for delivery in deliveries(api, mute)} == {"pending"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 1.5 ", 1.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("1e300", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wish_to_be_left_alone_is_read_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    wanted = retry_after(httpx.Headers({"retry-after": value}), datetime(2026, 10, 21, 7, 27, tzinfo=UTC))
    assert wanted == (None if seconds is None else timedelta(seconds=seconds))
