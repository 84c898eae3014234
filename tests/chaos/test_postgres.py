"""Postgres killed again and again: nothing is accepted that is not stored, nothing is computed in vain."""

import signal
import time

import psutil

from jobs.recovery import MAX_GAP
from models.types import Priority
from tests.chaos.conftest import Chaos

LEASE_SECONDS = 2
JOB = {"type": "embedding", "input": {"texts": ["a text"]}}


def test_without_a_database_nothing_is_accepted(chaos: Chaos) -> None:
    accepted = [chaos.send("a text")]
    chaos.signal("postgres", signal.SIGKILL)
    # nobody watches, so it stays away
    for _ in range(3):
        answer = chaos.client.post("/v1/jobs", json=JOB)
        assert answer.status_code == 503, answer.text
        assert answer.headers["Retry-After"]
    chaos.wait_until(lambda: chaos.is_ready(worker=False))
    accepted.append(chaos.send("a text"))
    assert chaos.count("SELECT count(*) FROM jobs") == len(accepted)
    for job in accepted:
        chaos.cancel(job)
    chaos.settle()


def test_what_was_computed_while_the_database_was_away_is_stored_once(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_LEASE_SECONDS=str(LEASE_SECONDS))
    for _ in range(3):
        job_id = chaos.order(["sleep 2"], Priority.INTERACTIVE)
        chaos.wait_until(chaos.is_forward)
        chaos.signal("postgres", signal.SIGKILL)
        # far past the end of the pass, and of the lease
        time.sleep(2 + 2 * LEASE_SECONDS)
        chaos.wait_until(lambda: chaos.is_ready(worker=False))
        chaos.settle()
        assert chaos.job(job_id).state == "succeeded"
        # not lost, not tried again, nobody struck
        assert chaos.count("SELECT jsonb_agg(outcome) FROM attempts WHERE job_id = :id", id=job_id) == [
            "completed"
        ]


def test_a_database_that_stood_still_past_the_leases_costs_nobody_theirs(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_LEASE_SECONDS=str(LEASE_SECONDS))
    # longer than the loop of the duties may be silent
    frozen_seconds = MAX_GAP.total_seconds() + LEASE_SECONDS
    job_id = chaos.order([f"sleep {frozen_seconds + 2}"], Priority.INTERACTIVE)
    chaos.wait_until(chaos.is_forward)
    postgres = psutil.Process(chaos.pid("postgres"))
    family = [postgres, *postgres.children(recursive=True)]
    for process in family:
        process.suspend()
    time.sleep(frozen_seconds)
    for process in reversed(family):
        process.resume()
    chaos.settle()
    assert chaos.job(job_id).state == "succeeded"
    assert chaos.count("SELECT jsonb_agg(outcome) FROM attempts") == ["completed"]
    assert "database.was_away" in chaos.log("api")
