"""API processes that are killed or frozen: what they accepted is done, and others do their duties."""

import os
import signal
import socket

import httpx
import pytest

from tests.chaos.conftest import QUEUE_KEY, Chaos
from tests.chaos.locks import locked, somebody_waits
from tests.ledger import claim, complete

JOB = {"type": "embedding", "input": {"texts": ["a text"]}}


def test_a_job_whose_api_died_before_it_told_anybody_is_begun_and_known_by_its_key(chaos: Chaos) -> None:
    headers = {**chaos.client.headers, "Idempotency-Key": "once"}
    with socket.create_server(("127.0.0.1", 0)) as mute:
        broker = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        port = chaos.add_api("dying", LENSQUEUE_BROKER_URL=broker)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/jobs", json=JOB, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text
        chaos.signal("dying", signal.SIGKILL)
        # a duty of the other API process, which runs every second
        chaos.wait_until(lambda: chaos.broker.llen(QUEUE_KEY) > 0, 10)
        again = chaos.client.post("/v1/jobs", json=JOB, headers=headers)
    assert (again.json()["id"], chaos.count("SELECT count(*) FROM jobs")) == (answer.json()["id"], 1)
    chaos.cancel(again.json())
    chaos.settle()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_the_duties_go_on_without_the_process_that_was_at_them(number: signal.Signals, chaos: Chaos) -> None:
    job_id = chaos.order(["a text"])
    assert claim(chaos.sessions, ttl_seconds=1)
    with locked(chaos, "LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"):
        # the only API process is in the midst of taking leases back, which nobody else may do meanwhile
        chaos.wait_until(lambda: somebody_waits(chaos))
        frozen = chaos.pid("api")
        os.kill(frozen, number)
        chaos.add_api("other")
    try:
        # less than the transaction timeout of a duty is left to it
        chaos.wait_until(lambda: not chaos.is_forward(), 10)
    finally:
        if number is signal.SIGSTOP:
            os.kill(frozen, signal.SIGCONT)
    held = claim(chaos.sessions)
    assert held is not None
    assert complete(chaos.sessions, held)
    chaos.settle()
    assert chaos.job(job_id).state == "succeeded"
    assert chaos.count("SELECT jsonb_agg(outcome ORDER BY attempt) FROM attempts") == ["lost", "completed"]
