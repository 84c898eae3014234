"""Workers that are killed, frozen or told to end: what they held is done by others, and counted once."""

import signal
from functools import partial

from models.types import Priority
from tests.chaos.conftest import Chaos
from tests.chaos.locks import locked, somebody_waits
from worker.oversight import YOUNG_LEASES

CLAIMABLE_SECONDS = 5


def kill_in_the_claim(chaos: Chaos) -> None:
    with locked(chaos, "LOCK TABLE attempts IN EXCLUSIVE MODE"):
        chaos.order(["a text"])
        chaos.wait_until(lambda: somebody_waits(chaos))
        chaos.worker_child().kill()


def kill_in_the_forward_pass(chaos: Chaos) -> None:
    chaos.order(["sleep 1", "a text"])
    chaos.wait_until(chaos.is_forward)
    chaos.worker_child().kill()


def kill_before_the_complete(chaos: Chaos) -> None:
    chaos.order(["sleep 1", "a text"])
    chaos.wait_until(chaos.is_forward)
    with locked(chaos, "SELECT FROM leases FOR UPDATE"):
        chaos.wait_seconds(2)
        assert somebody_waits(chaos)
        chaos.worker_child().kill()


def kill_in_the_complete(chaos: Chaos) -> None:
    chaos.order(["sleep 1", "a text"])
    chaos.wait_until(chaos.is_forward)
    with locked(chaos, "SELECT FROM jobs FOR UPDATE"):
        chaos.wait_until(lambda: somebody_waits(chaos))
        chaos.worker_child().kill()


def kill_after_the_complete(chaos: Chaos) -> None:
    job_id = chaos.order(["a text"])
    chaos.wait_until(lambda: chaos.job(job_id).state == "succeeded")
    chaos.worker_child().kill()


def test_what_a_killed_child_held_waits_again_at_once(chaos: Chaos) -> None:
    chaos.add_worker()
    for kill in (
        kill_in_the_claim,
        kill_in_the_forward_pass,
        kill_before_the_complete,
        kill_in_the_complete,
        kill_after_the_complete,
    ):
        kill(chaos)
        # far less than the lease: it is the parent that says so
        chaos.wait_until(lambda: not chaos.is_forward(), CLAIMABLE_SECONDS)
        assert chaos.count("SELECT count(*) FROM work WHERE run_at > now() OR strikes > 0") == 0, kill
        chaos.settle()
    assert chaos.count("SELECT count(*) FROM jobs WHERE state <> 'succeeded'") == 0


def test_a_worker_frozen_past_its_lease_changes_nothing_when_it_comes_back(chaos: Chaos) -> None:
    job_id = chaos.order(["sleep 1", "a text"])
    chaos.add_worker("frozen", LENSQUEUE_LEASE_SECONDS="2")
    chaos.wait_until(chaos.is_forward)
    child = chaos.worker_child("frozen")
    child.suspend()
    chaos.wait_until(lambda: chaos.count("SELECT count(*) FROM attempts WHERE outcome = 'lost'") == 1, 20)
    chaos.add_worker("other")
    chaos.settle()
    before = chaos.count("SELECT jsonb_agg(results ORDER BY index) FROM results")
    child.resume()
    chaos.wait_until(lambda: "claim.lost" in chaos.log("frozen") or "abandoned" in chaos.log("frozen"))
    assert chaos.count("SELECT jsonb_agg(results ORDER BY index) FROM results") == before
    assert tuple(chaos.job(job_id)) == ("succeeded", 2, 0, 0)
    chaos.settle()


def is_restarted(chaos: Chaos, name: str, old: int) -> bool:
    return chaos.stack.pid(name) not in {None, old} and chaos.state_of(name) == "online"


def test_a_rolling_restart_under_load_fails_and_loses_nothing(chaos: Chaos) -> None:
    jobs = [chaos.order(["a text"] * 500) for _ in range(4)]
    for name in ("first", "second"):
        chaos.add_worker(name, LENSQUEUE_CHAOS_BATCH_MS="300")
    for name in ("first", "second", "first", "second"):
        chaos.wait_until(chaos.is_forward)
        old = chaos.signal(name, signal.SIGTERM)
        jobs.append(chaos.order(["a text"] * 500))
        jobs.append(chaos.order(["a text"], Priority.INTERACTIVE))
        chaos.wait_until(partial(is_restarted, chaos, name, old))
    chaos.settle()
    assert {chaos.job(job_id).state for job_id in jobs} == {"succeeded"}
    assert chaos.count("SELECT count(*) FROM attempts WHERE outcome <> 'completed'") == 0


def test_a_child_that_stands_still_is_killed_long_before_its_time_limit(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_LEASE_SECONDS="1")
    child = chaos.worker_child()
    # as old as one must be that is no longer importing torch
    chaos.wait_seconds(YOUNG_LEASES + 2)
    job_id = chaos.order(["sleep 0.3"] * 3, Priority.INTERACTIVE)
    chaos.wait_until(chaos.is_forward)
    child.suspend()
    chaos.settle()
    assert chaos.job(job_id).state == "succeeded"
    assert not child.is_running()
    assert "worker.child_silent" in chaos.log("worker")
    assert chaos.count("SELECT count(*) FROM work WHERE strikes > 0") == 0
