"""Messages to webhook endpoints in the ledger: written with a job's end, claimed, settled, tried again."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs.cancel import cancel, drop_work
from jobs.deadlines import expire_unstarted, stop_overdue
from jobs.deliveries import DELAYS, LEASE, Message, Share, Try, claim_due, delay_after, redeliver, settle
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
from jobs.leases import Appetite
from jobs.recovery import fail_hopeless
from jobs.submission import Terms
from jobs.undelivered import end_unwanted, prune_deliveries
from models.types import DeliveryState
from models.webhook import WebhookDelivery, WebhookEndpoint
from tests.faults import change, do, let_leases_run_out
from tests.ledger import TENANT, claim, complete, read, scalar, submit_texts

Sessions = sessionmaker[Session]
FAILED = {"status": 500}
DAY = timedelta(days=1)


def add_endpoint(
    sessions: Sessions, url: str = "https://hooks.example.org/in", *, tenant: str = TENANT
) -> uuid.UUID:
    """An enabled endpoint."""
    with sessions.begin() as session:
        endpoint = create_endpoint(session, tenant, httpx.URL(url), "", 1_000)
        return note_verification(session, endpoint, None).id


def add_job(sessions: Sessions, endpoint_id: uuid.UUID, count: int = 1, **options: Any) -> uuid.UUID:
    """A job of which the endpoint is told."""
    job_id = submit_texts(sessions, count, **options)
    change(
        sessions,
        "UPDATE jobs SET webhook_endpoint_id = :endpoint WHERE id = :job",
        endpoint=endpoint_id,
        job=job_id,
    )
    return job_id


def end_job(sessions: Sessions, endpoint_id: uuid.UUID) -> uuid.UUID:
    """A job that has ended, and is to be told of."""
    job_id = add_job(sessions, endpoint_id)
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    return job_id


def due(sessions: Sessions, *under_way: Message, share: Share | None = None) -> list[Message]:
    with sessions.begin() as session:
        return claim_due(session, under_way, share or Share())


def tell(sessions: Sessions, message: Message, **what: Any) -> DeliveryState | None:
    """Note what came of a try."""
    with sessions.begin() as session:
        return settle(session, message, Try(datetime.now(UTC), 3, **what))


def hurry(sessions: Sessions) -> None:
    """Let the time of the next tries have come."""
    change(sessions, "UPDATE webhook_deliveries SET run_at = now() WHERE state = 'pending'")


def delivery(sessions: Sessions) -> WebhookDelivery:
    with sessions() as session:
        return session.query(WebhookDelivery).one()


def endpoint(sessions: Sessions, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    with sessions() as session:
        return session.get_one(WebhookEndpoint, endpoint_id)


def finish(sessions: Sessions, job_id: uuid.UUID) -> None:
    held = claim(sessions, appetite=Appetite(items=9))
    assert held is not None
    complete(sessions, held)


def finish_in_part(sessions: Sessions, job_id: uuid.UUID) -> None:
    held = claim(sessions, appetite=Appetite(items=9))
    assert held is not None
    complete(sessions, held, failing=[0])


def finish_in_vain(sessions: Sessions, job_id: uuid.UUID) -> None:
    held = claim(sessions, appetite=Appetite(items=9))
    assert held is not None
    complete(sessions, held, failing=[0, 1])


def cancel_waiting(sessions: Sessions, job_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        cancel(session, TENANT, job_id)
        drop_work(session, job_id)


def cancel_running(sessions: Sessions, job_id: uuid.UUID) -> None:
    held = claim(sessions)
    assert held is not None
    cancel_waiting(sessions, job_id)
    complete(sessions, held)


def miss_the_start(sessions: Sessions, job_id: uuid.UUID) -> None:
    change(sessions, "UPDATE jobs SET start_by = now() - interval '1 second'")
    while do(sessions, expire_unstarted):
        pass


def run_out_of_time(sessions: Sessions, job_id: uuid.UUID) -> None:
    held = claim(sessions)
    assert held is not None
    complete(sessions, held)
    change(sessions, "UPDATE jobs SET run_until = now() - interval '1 second'")
    while do(sessions, stop_overdue):
        pass


def lose_all_workers(sessions: Sessions, job_id: uuid.UUID) -> None:
    claim(sessions, appetite=Appetite(items=9))
    let_leases_run_out(sessions)
    change(sessions, "UPDATE work SET losses = 99")
    while do(sessions, fail_hopeless):
        pass


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (finish, "succeeded"),
        (finish_in_part, "partial"),
        (finish_in_vain, "failed"),
        (cancel_waiting, "cancelled"),
        (cancel_running, "cancelled"),
        (miss_the_start, "expired"),
        (run_out_of_time, "partial"),
        (lose_all_workers, "failed"),
    ],
)
def test_every_end_of_a_job_is_told_once(
    end: Callable[[Sessions, uuid.UUID], None], state: str, sessions: Sessions
) -> None:
    endpoint_id = add_endpoint(sessions)
    job_id = add_job(sessions, endpoint_id, 2, terms=Terms(run_timeout=DAY, start_within=DAY))
    assert scalar(sessions, "SELECT count(*) FROM webhook_deliveries") == 0
    end(sessions, job_id)
    assert read(sessions, job_id).state == state
    written = delivery(sessions)
    assert (written.endpoint_id, written.job_id, written.event) == (endpoint_id, job_id, "job.ended")


def test_a_job_without_an_endpoint_is_told_to_nobody(sessions: Sessions) -> None:
    submit_texts(sessions)
    finish(sessions, uuid.uuid4())
    assert scalar(sessions, "SELECT count(*) FROM webhook_deliveries") == 0


def test_a_claimed_message_is_not_claimed_again_before_its_lease_is_over(sessions: Sessions) -> None:
    end_job(sessions, add_endpoint(sessions))
    [first] = due(sessions)
    assert due(sessions) == []
    assert first.leased_until - datetime.now(UTC) <= LEASE
    hurry(sessions)
    [second] = due(sessions)
    assert (second.id, second.body) == (first.id, first.body)
    # whoever was thought dead speaks too late
    assert tell(sessions, first, **FAILED) is None
    assert tell(sessions, second, status=200) is DeliveryState.DELIVERED
    assert delivery(sessions).attempts == 1


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


def test_one_endpoint_and_one_destination_have_their_share_and_leave_the_rest_to_others(
    sessions: Sessions,
) -> None:
    slow = [add_endpoint(sessions, f"https://slow.example.org/{number}") for number in range(3)]
    for endpoint_id in slow * 4:
        end_job(sessions, endpoint_id)
    other = end_job(sessions, add_endpoint(sessions, "https://other.example.org/"))
    share = Share(messages=10, of_destination=3, of_endpoint=2)
    claimed = due(sessions, share=share)
    assert len(claimed) == 4
    slows = [message for message in claimed if message.destination == "slow.example.org:443"]
    assert len(slows) == 3
    assert max(sum(one.endpoint_id == each for one in slows) for each in slow) <= 2
    assert any(other.hex.encode() in message.body for message in claimed)
    # while these are under way, nothing more goes there
    assert due(sessions, *claimed, share=share) == []
    assert len(due(sessions, *claimed[:1], share=share)) == 2
    assert due(sessions, *claimed, share=Share(messages=4)) == []


def test_two_that_claim_at_the_same_time_take_no_message_both(sessions: Sessions) -> None:
    for _ in range(2):
        end_job(sessions, add_endpoint(sessions))
    with sessions.begin() as one, sessions.begin() as another:
        first = claim_due(one, [], Share())
        second = claim_due(another, [], Share())
    assert [len(first), len(second)] == [2, 0]


def test_an_ended_jobs_message_is_the_same_to_the_byte(sessions: Sessions) -> None:
    end_job(sessions, add_endpoint(sessions))
    [first] = due(sessions)
    change(sessions, f"ALTER DATABASE {sessions.kw['bind'].url.database} SET timezone = 'Asia/Tokyo'")
    sessions.kw["bind"].dispose()
    hurry(sessions)
    [second] = due(sessions)
    assert second.body == first.body
    assert b'"type":"job.ended"' in first.body
    assert b'Z"' in first.body


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


def test_a_message_whose_job_is_gone_ends(sessions: Sessions) -> None:
    job_id = end_job(sessions, add_endpoint(sessions))
    change(sessions, "DELETE FROM jobs WHERE id = :id", id=job_id)
    assert due(sessions) == []
    assert delivery(sessions).state_reason == "The job is gone."


def test_messages_that_ended_are_removed_after_their_time(sessions: Sessions) -> None:
    endpoint_id = add_endpoint(sessions)
    end_job(sessions, endpoint_id)
    [message] = due(sessions)
    tell(sessions, message, status=200)
    end_job(sessions, endpoint_id)
    change(
        sessions, "UPDATE webhook_deliveries SET ended_at = now() - interval '31 days' WHERE ended_at < now()"
    )
    with sessions.begin() as session:
        assert prune_deliveries(session, timedelta(days=32)) == 0
        assert prune_deliveries(session, timedelta(days=30)) == 1
    assert delivery(sessions).state == "pending"
