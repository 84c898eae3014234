"""Receivers of webhooks that never answer, and API processes killed while they send."""

import signal
import threading

from tests.chaos.conftest import Chaos
from tests.ledger import claim, complete
from tests.receiver import Receiver

RECOVERY_SECONDS = 10
MESSAGES = 100
JOB = {"type": "embedding", "input": {"texts": ["a text"]}}


def add_endpoint(chaos: Chaos, receiver: Receiver, path: str = "/in") -> str:
    """An endpoint that is told."""
    made = chaos.client.post("/v1/webhook-endpoints", json={"url": receiver.url(path)}).raise_for_status()
    assert made.json()["state"] == "enabled", made.text
    return str(made.json()["id"])


def end_jobs(chaos: Chaos, endpoint_id: str, count: int = 1) -> list[str]:
    """Jobs that have ended, and are to be told of."""
    jobs = [chaos.submit({**JOB, "webhook": {"endpoint_id": endpoint_id}})["id"] for _ in range(count)]
    for _ in jobs:
        held = claim(chaos.sessions)
        assert held is not None
        assert complete(chaos.sessions, held)
    return jobs


def take_work_back(chaos: Chaos) -> None:
    """Work whose holder fell silent is to be had again in time."""
    chaos.order(["a text"])
    held = claim(chaos.sessions, ttl_seconds=1)
    assert held is not None
    chaos.wait_until(lambda: not chaos.is_forward(), RECOVERY_SECONDS)
    held = claim(chaos.sessions)
    assert held is not None
    assert complete(chaos.sessions, held)


def test_a_receiver_that_never_answers_leaves_recovery_and_requests_as_they_were(chaos: Chaos) -> None:
    take_work_back(chaos)
    with Receiver.listening() as silent, Receiver.listening() as well:
        mute, told = add_endpoint(chaos, silent), add_endpoint(chaos, well)
        silent.released = threading.Event()
        end_jobs(chaos, mute, MESSAGES)
        silent.wait_for(1)
        for _ in range(3):
            # within the same bound as before
            take_work_back(chaos)
        jobs = end_jobs(chaos, told, 3)
        assert sorted(heard.message["data"]["id"] for heard in well.wait_for(3)) == sorted(jobs)
        # by the tries that are under way, the others are not touched
        assert chaos.count("SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'") >= MESSAGES
    chaos.settle()


def test_a_message_that_was_being_sent_when_its_process_was_killed_is_sent_again(chaos: Chaos) -> None:
    with Receiver.listening() as receiver:
        endpoint_id = add_endpoint(chaos, receiver)
        receiver.released = threading.Event()
        [job] = end_jobs(chaos, endpoint_id)
        [first] = receiver.wait_for(1)
        chaos.signal("api", signal.SIGKILL)
        assert chaos.count("SELECT attempts FROM webhook_deliveries") == 0
        receiver.released.set()
        # a lease takes a minute
        chaos.change("UPDATE webhook_deliveries SET run_at = now()")
        chaos.wait_until(lambda: len(receiver.messages) > 1)
        second = receiver.messages[1]
        assert (second.body, second.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
        assert second.message["data"]["id"] == job
        chaos.wait_until(lambda: chaos.count("SELECT state FROM webhook_deliveries") == "delivered")
    chaos.wait_until(lambda: chaos.is_ready(worker=False))
