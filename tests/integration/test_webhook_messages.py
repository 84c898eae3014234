"""Messages end to end: a job's end, a real receiver, and the courier of the API process."""

import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook, WebhookVerificationError

from api.courier import delivering, retry_after
from api.settings import ApiSettings
from jobs.deliveries import Share, claim_due
from jobs.leases import complete as complete_work
from tests.deliveries import hurry
from tests.faults import change
from tests.ledger import MODEL, claim, results_of
from tests.receiver import Heard, Receiver
from tests.webhooks import HERE, add, deliveries, end_job, settled, submit

Sessions = sessionmaker[Session]


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"egress_allowed": ["127.0.0.1:*"]})


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


def test_a_secret_rotated_without_a_body_is_kept_for_a_day(api: TestClient, receiver: Receiver) -> None:
    endpoint = add(api, receiver.url())
    rotated = api.post(f"{HERE}/{endpoint['id']}/rotate-secret").raise_for_status().json()
    until = datetime.fromisoformat(rotated["previous_secret_until"])
    assert timedelta(hours=23) < until - datetime.now(UTC) < timedelta(hours=25)


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
