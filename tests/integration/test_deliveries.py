"""Messages to webhook endpoints in the ledger: written with a job's end, claimed, removed."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs.cancel import cancel, drop_work
from jobs.deadlines import expire_unstarted, stop_overdue
from jobs.deliveries import LEASE, Share, claim_due
from jobs.leases import Appetite
from jobs.recovery import fail_hopeless
from jobs.submission import Terms
from jobs.undelivered import prune_deliveries
from models.types import DeliveryState
from tests.deliveries import FAILED, add_endpoint, add_job, delivery, due, end_job, hurry, tell
from tests.faults import change, do, let_leases_run_out
from tests.ledger import TENANT, claim, complete, read, scalar, submit_texts

Sessions = sessionmaker[Session]
DAY = timedelta(days=1)


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
