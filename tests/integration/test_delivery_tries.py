"""Tries of messages in the ledger: their schedule, what ends them, and those asked for once more."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs.deliveries import DELAYS, Try, delay_after, redeliver
from jobs.undelivered import end_unwanted
from models.types import DeliveryState
from models.webhook import WebhookDelivery
from tests.deliveries import FAILED, add_endpoint, delivery, due, end_job, endpoint, hurry, tell
from tests.faults import change, do
from tests.ledger import TENANT, scalar

Sessions = sessionmaker[Session]
DAY = timedelta(days=1)


def test_the_schedule_of_tries_takes_a_day_and_then_ends(sessions: Sessions) -> None:
    end_job(sessions, add_endpoint(sessions))
    assert DAY < sum(DELAYS, timedelta()) < 1.2 * DAY
    for number, delay in enumerate(DELAYS, 1):
        [message] = due(sessions)
        assert tell(sessions, message, **FAILED) is DeliveryState.PENDING
        row = delivery(sessions)
        assert row.attempts == number
        waits = row.run_at - datetime.now(UTC)
        assert 0.9 * delay - timedelta(seconds=3) < waits < 1.2 * delay
        hurry(sessions)
    [message] = due(sessions)
    assert tell(sessions, message, error="No connection was made in time.") is DeliveryState.FAILED
    row = delivery(sessions)
    assert (row.attempts, row.state_reason) == (11, "All 11 tries failed.")
    assert [one["status"] for one in row.tries] == [500] * 10 + [None]
    assert row.tries[-1]["error"] == "No connection was made in time."
    hurry(sessions)
    assert due(sessions) == []


@pytest.mark.parametrize(
    ("status", "retry_after_s", "at_least_s", "at_most_s"),
    [
        (503, 120, 120, 132),
        (429, 120, 120, 132),
        (500, 120, 5, 5.5),
        (503, 0, 5, 5.5),
        (503, 10**9, 43_200, 47_520),
    ],
)
def test_a_receiver_may_ask_for_more_time_within_bounds(
    status: int, retry_after_s: int, at_least_s: float, at_most_s: float
) -> None:
    tried = Try(datetime.now(UTC), 3, status=status, retry_after=timedelta(seconds=retry_after_s))
    assert at_least_s <= delay_after(1, tried).total_seconds() <= at_most_s


@pytest.mark.parametrize("status", [301, 302, 304, 404, 500])
def test_what_is_not_2xx_is_a_failure(status: int, sessions: Sessions) -> None:
    end_job(sessions, add_endpoint(sessions))
    [message] = due(sessions)
    assert tell(sessions, message, status=status) is DeliveryState.PENDING


def test_410_ends_the_message_and_disables_the_endpoint(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    for _ in range(2):
        end_job(sessions, endpoint_id)
    first, _ = due(sessions)
    assert tell(sessions, first, status=410) is DeliveryState.FAILED
    assert endpoint(sessions, endpoint_id).state == "disabled"
    assert "410" in (endpoint(sessions, endpoint_id).state_reason or "")
    hurry(sessions)
    assert due(sessions) == []
    assert do(sessions, end_unwanted) == 1
    reasons = scalar(
        sessions, "SELECT jsonb_agg(state_reason) FROM webhook_deliveries WHERE id <> :id", id=first.id
    )
    assert reasons == ["The endpoint was disabled."]


def test_an_endpoint_is_disabled_when_everything_failed_for_five_days(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    [message] = due(sessions)
    tell(sessions, message, **FAILED)
    assert endpoint(sessions, endpoint_id).failing_since
    change(sessions, "UPDATE webhook_endpoints SET failing_since = now() - interval '4 days 23 hours'")
    hurry(sessions)
    [message] = due(sessions)
    tell(sessions, message, **FAILED)
    assert endpoint(sessions, endpoint_id).state == "enabled"
    change(sessions, "UPDATE webhook_endpoints SET failing_since = now() - interval '5 days 1 hour'")
    hurry(sessions)
    [message] = due(sessions)
    tell(sessions, message, **FAILED)
    row = endpoint(sessions, endpoint_id)
    assert (row.state, row.state_reason) == ("disabled", "Every message to it failed for 5 days.")


def test_one_success_ends_what_was_failing(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    [message] = due(sessions)
    tell(sessions, message, **FAILED)
    hurry(sessions)
    [message] = due(sessions)
    tell(sessions, message, status=204)
    assert endpoint(sessions, endpoint_id).failing_since is None


def send_once_more(sessions: Sessions, endpoint_id: uuid.UUID, delivery_id: uuid.UUID) -> WebhookDelivery:
    with sessions.begin() as session:
        return redeliver(session, TENANT, endpoint_id, delivery_id)


def test_a_redelivery_goes_out_by_the_same_id(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    [first] = due(sessions)
    tell(sessions, first, status=200)
    again = send_once_more(sessions, endpoint_id, first.delivery_id)
    assert again.id != first.id
    # asked for twice, it goes out once; asked for of a redelivery, it is the first message again
    assert send_once_more(sessions, endpoint_id, first.delivery_id).id == again.id
    [second] = due(sessions)
    assert (second.id, second.body) == (first.id, first.body)
    tell(sessions, second, status=200)
    third = send_once_more(sessions, endpoint_id, again.id)
    assert third.redelivery_of == first.id


def test_a_message_that_waits_for_its_next_try_is_tried_now(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    [first] = due(sessions)
    for _ in range(4):
        tell(sessions, first, **FAILED)
        hurry(sessions)
        [first] = due(sessions)
    # under way: it is left alone
    assert send_once_more(sessions, endpoint_id, first.id).run_at == first.leased_until
    assert due(sessions) == []
    tell(sessions, first, **FAILED)
    assert due(sessions) == []
    assert send_once_more(sessions, endpoint_id, first.id).id == first.id
    assert len(due(sessions)) == 1
