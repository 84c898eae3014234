"""Webhook endpoints in the dashboard: how they are, every message and its tries, and what can be done."""

import re
import uuid
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.dashboard.addresses import PAGE
from api.schemas import ids
from api.settings import ApiSettings
from models.types import EndpointState, Role
from models.webhook import WebhookDelivery, WebhookEndpoint
from tests.dashboard import add_account, audited, once_in, sign_in
from tests.deliveries import add_endpoint
from tests.faults import change
from tests.ledger import TENANT
from tests.receiver import Receiver

Sessions = sessionmaker[Session]
HERE = "/admin/webhooks"
ADA, RED, OPERATOR = "ada@example.org", "red@example.org", "operator@example.org"
MARKUP = "<script>alert(1)</script>"
ACTS = ("verify", "disable", "enable", "rotate", "delete")


@pytest.fixture
def browser(settings: ApiSettings, sessions: Sessions) -> Iterator[TestClient]:
    add_account(sessions, ADA)
    add_account(sessions, RED, Role.ADMIN, "red")
    add_account(sessions, OPERATOR, Role.OPERATOR, TENANT)
    allowing = settings.model_copy(update={"egress_allowed": ["127.0.0.1:*"]})
    with TestClient(create_app(allowing), base_url="https://testserver") as client:
        yield client


def add_failed(sessions: Sessions, endpoint_id: uuid.UUID, count: int = 1) -> None:
    """Messages that failed for good, of which a receiver said what would be markup."""
    change(
        sessions,
        """INSERT INTO webhook_deliveries
             (endpoint_id, job_id, event, state, state_reason, attempts, tries, ended_at)
           SELECT :endpoint, gen_random_uuid(), 'job.ended', 'failed', 'All 11 tries failed.', 11,
             jsonb_build_array(
               jsonb_build_object('at', '2026-11-28T15:00:00+00:00', 'elapsed_ms', 7, 'status', 500,
                                  'error', NULL),
               jsonb_build_object('at', '2026-11-28T15:00:05+00:00', 'elapsed_ms', 9, 'status', NULL,
                                  'error', CAST(:error AS text))), now()
           FROM generate_series(1, :count)""",
        endpoint=endpoint_id,
        error=MARKUP,
        count=count,
    )


def endpoint(sessions: Sessions, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    with sessions() as session:
        return session.get_one(WebhookEndpoint, endpoint_id)


def deliveries(sessions: Sessions) -> list[WebhookDelivery]:
    with sessions() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))


def test_an_endpoint_is_shown_with_why_it_fails_and_every_try(
    browser: TestClient, sessions: Sessions
) -> None:
    sign_in(browser, ADA)
    assert "/v1/webhook-endpoints" in browser.get(HERE).text
    endpoint_id = add_endpoint(sessions)
    change(
        sessions,
        "UPDATE webhook_endpoints SET description = :said, failing_since = now() - interval '2 days'",
        said=MARKUP,
    )
    add_failed(sessions, endpoint_id, PAGE + 1)
    here = f"{HERE}/{ids.endpoint_id(endpoint_id)}"
    for path in (HERE, f"{HERE}/rows"):
        listed = browser.get(path).text
        for said in ("https://hooks.example.org/in", "2.0 d ago", "enabled", here):
            assert said in listed
    for path in (here, f"{here}/news"):
        shown = browser.get(path).text
        for said in ("All 11 tries failed.", ">500<", "&lt;script&gt;", "2.0 d ago"):
            assert said in shown
        assert MARKUP not in shown
    first, following = shown.count('id="msg_'), shown.rpartition(f'href="{here}?')[2].partition('"')[0]
    assert (first, browser.get(f"{here}?{following}").text.count('id="msg_')) == (PAGE, 1)
    assert endpoint(sessions, endpoint_id).secret not in listed + shown


def test_a_message_is_sent_again_and_an_endpoint_disabled_enabled_and_deleted(
    browser: TestClient, sessions: Sessions, receiver: Receiver
) -> None:
    endpoint_id = add_endpoint(sessions, receiver.url())
    add_failed(sessions, endpoint_id)
    [failed] = deliveries(sessions)
    wire_id = ids.endpoint_id(endpoint_id)
    here, message = f"{HERE}/{wire_id}", ids.message_id(failed.id)
    sign_in(browser, ADA)
    again, form = f"{here}/deliveries/{message}/send-again", {"once": once_in(browser.get(here).text)}
    for told in ("message-sent-again", "message-sent-before"):
        assert browser.post(again, data=form).headers["Location"] == f"{here}?told={told}"
        # so that only the form says that it was sent before
        change(sessions, "UPDATE webhook_deliveries SET state = 'failed', ended_at = now()")
    _, sent = deliveries(sessions)
    assert sent.redelivery_of == failed.id
    assert browser.post(f"{here}/disable", data={"reason": "noise"}).status_code == 303
    assert endpoint(sessions, endpoint_id).state == EndpointState.DISABLED
    assert browser.post(again, data={"once": "other"}).status_code == 422
    assert again not in browser.get(here).text
    assert browser.post(f"{here}/enable").headers["Location"] == f"{here}?told=endpoint-enabled"
    assert browser.post(f"{here}/delete").headers["Location"] == f"{HERE}?told=endpoint-deleted"
    assert browser.get(here).status_code == 404
    assert [entry[1:] for entry in audited(sessions)] == [
        ("message.sent_again", message, TENANT, None),
        ("endpoint.disabled", wire_id, TENANT, "noise"),
        ("endpoint.enabled", wire_id, TENANT, None),
        ("endpoint.deleted", wire_id, TENANT, None),
    ]


def test_it_is_verified_by_its_answer_alone(
    browser: TestClient, sessions: Sessions, receiver: Receiver
) -> None:
    endpoint_id = add_endpoint(sessions, receiver.url())
    change(sessions, "UPDATE webhook_endpoints SET state = 'pending', verified_at = NULL")
    here = f"{HERE}/{ids.endpoint_id(endpoint_id)}"
    sign_in(browser, ADA)
    answering, receiver.echoes = receiver.echoes, None
    assert browser.post(f"{here}/verify").headers["Location"] == f"{here}?told=endpoint-not-verified"
    assert endpoint(sessions, endpoint_id).state == EndpointState.PENDING
    receiver.echoes = answering
    assert browser.post(f"{here}/verify").headers["Location"] == f"{here}?told=endpoint-verified"
    assert endpoint(sessions, endpoint_id).state == EndpointState.ENABLED
    # of one that is enabled nothing is asked, and nothing is written down
    assert browser.post(f"{here}/verify").status_code == 303
    assert [verb for _, verb, *_ in audited(sessions)] == ["endpoint.verified"] * 2


def test_a_form_that_is_sent_twice_rotates_a_secret_once_and_shows_it_once(
    browser: TestClient, sessions: Sessions
) -> None:
    endpoint_id = add_endpoint(sessions)
    before = endpoint(sessions, endpoint_id).secret
    here = f"{HERE}/{ids.endpoint_id(endpoint_id)}"
    sign_in(browser, ADA)
    form = {"keep_previous_s": "0", "once": once_in(browser.get(here).text)}
    for bad in ({"keep_previous_s": "99999999"}, {"once": ""}):
        assert browser.post(f"{here}/rotate", data=form | bad).status_code == 422
    answer = browser.post(f"{here}/rotate", data=form)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    after = endpoint(sessions, endpoint_id)
    assert re.findall(r"whsec_[\w+/=]+", answer.text) == [after.secret]
    assert after.secret != before
    assert after.previous_secret is None
    again = browser.post(f"{here}/rotate", data=form)
    assert (again.status_code, again.headers["Location"]) == (303, f"{here}?told=secret-rotated-before")
    assert "shown once" in browser.get(again.headers["Location"]).text
    assert endpoint(sessions, endpoint_id).secret == after.secret
    assert after.secret not in browser.get(here).text
    assert [verb for _, verb, *_ in audited(sessions)] == ["endpoint.secret_rotated"]


def test_only_who_manages_its_tenant_sees_and_acts(browser: TestClient, sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    add_failed(sessions, endpoint_id)
    here = f"{HERE}/{ids.endpoint_id(endpoint_id)}"
    again = f"deliveries/{ids.message_id(deliveries(sessions)[0].id)}/send-again"
    for email, status in ((OPERATOR, 403), (RED, 404)):
        sign_in(browser, email)
        assert browser.get(here).status_code == status
        assert "hooks.example.org" not in browser.get(HERE).text
        form = {"once": "a"}
        assert [browser.post(f"{here}/{act}", data=form).status_code for act in (*ACTS, again)] == [
            status
        ] * 6
    assert endpoint(sessions, endpoint_id).state == EndpointState.ENABLED
    assert audited(sessions) == []
