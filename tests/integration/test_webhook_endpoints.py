"""Webhook endpoints in the ledger: their secrets, states and owners, and what waits for them."""

from datetime import timedelta

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs.endpoints import (
    Changes,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    endpoint_of,
    forget_secrets,
    hold_endpoint,
    note_verification,
    rotate_secret,
    secrets_of,
)
from jobs.errors import NotFoundError, TooManyWebhookEndpointsError
from jobs.undelivered import end_unwanted
from tests.deliveries import add_endpoint, delivery, due, end_job, endpoint
from tests.faults import change, do
from tests.ledger import TENANT

Sessions = sessionmaker[Session]
DAY = timedelta(days=1)


def test_a_rotated_secret_signs_for_a_while_and_is_forgotten(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    old = endpoint(sessions, endpoint_id).secret
    with sessions.begin() as session:
        rotated = rotate_secret(session, TENANT, endpoint_id, DAY)
    assert secrets_of(rotated) == [rotated.secret, old]
    end_job(sessions, endpoint_id)
    [message] = due(sessions)
    assert message.secrets == (rotated.secret, old)
    change(sessions, "UPDATE webhook_endpoints SET previous_secret_until = now() - interval '1 second'")
    assert secrets_of(endpoint(sessions, endpoint_id)) == [rotated.secret]
    assert do(sessions, forget_secrets) == 1
    assert endpoint(sessions, endpoint_id).previous_secret is None
    with sessions.begin() as session:
        last = rotate_secret(session, TENANT, endpoint_id, timedelta())
    assert secrets_of(last) == [last.secret]


def test_another_url_has_to_be_verified_and_what_waits_does_so_for_a_day(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    with sessions.begin() as session:
        changed = change_endpoint(
            session, TENANT, endpoint_id, Changes(url=httpx.URL("https://b.example.org:443/"))
        )
    assert (changed.state, changed.destination) == ("pending", "b.example.org:443")
    assert due(sessions) == []
    assert do(sessions, end_unwanted) == 0
    with sessions.begin() as session:
        note_verification(session, changed, None)
    [message] = due(sessions)
    assert message.url == "https://b.example.org/"
    change(sessions, "UPDATE webhook_endpoints SET state = 'pending'")
    change(sessions, "UPDATE webhook_deliveries SET created_at = now() - interval '25 hours'")
    assert do(sessions, end_unwanted) == 1
    assert delivery(sessions).state_reason == "The endpoint was not verified in time."


def test_an_answer_of_the_url_before_verifies_nothing(sessions: Sessions) -> None:
    with sessions.begin() as session:
        asked = create_endpoint(session, TENANT, httpx.URL("https://a.example.org/"), "", 9)
    with sessions.begin() as session:
        change_endpoint(session, TENANT, asked.id, Changes(url=httpx.URL("https://b.example.org/")))
    with sessions.begin() as session:
        assert note_verification(session, asked, None).state == "pending"


def test_an_endpoint_is_disabled_and_enabled_by_its_owner(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    with sessions.begin() as session:
        assert change_endpoint(session, TENANT, endpoint_id, Changes(enabled=False)).state == "disabled"
        assert change_endpoint(session, TENANT, endpoint_id, Changes(enabled=True)).state == "enabled"
        unverified = Changes(url=httpx.URL("https://c.example.org/"), enabled=False)
        assert change_endpoint(session, TENANT, endpoint_id, unverified).state == "disabled"
        assert change_endpoint(session, TENANT, endpoint_id, Changes(enabled=True)).state == "pending"


def test_a_deleted_endpoint_is_unknown_and_what_waits_for_it_ends(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    with sessions.begin() as session:
        delete_endpoint(session, TENANT, endpoint_id)
    with sessions() as session:
        assert session.scalar(endpoint_of(TENANT, endpoint_id)) is None
        with pytest.raises(NotFoundError):
            hold_endpoint(session, TENANT, endpoint_id)
    assert not endpoint(sessions, endpoint_id).secret
    assert do(sessions, end_unwanted) == 1
    # whoever ends a job that names it is not held up
    end_job(sessions, endpoint_id)
    assert do(sessions, end_unwanted) == 1


def test_a_tenant_has_so_many_endpoints(sessions: Sessions) -> None:
    url = httpx.URL("https://a.example.org/")
    with sessions.begin() as session:
        first = create_endpoint(session, TENANT, url, "", 1)
        with pytest.raises(TooManyWebhookEndpointsError):
            create_endpoint(session, TENANT, url, "", 1)
        create_endpoint(session, "another", url, "", 1)
        delete_endpoint(session, TENANT, first.id)
        assert create_endpoint(session, TENANT, url, "", 1).state == "pending"
