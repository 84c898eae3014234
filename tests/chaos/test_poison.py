"""Items that end the process, and hosts that cannot do the work: who is to blame pays, nobody else."""

import uuid
from pathlib import Path

import pytest

from models.types import Priority
from tests.chaos.conftest import Chaos
from tests.faults import cancel_job

ITEMS = 10_000
POISON = 4_321


def failed_indexes(chaos: Chaos, job_id: uuid.UUID) -> list[int]:
    found = chaos.count(
        """SELECT coalesce(jsonb_agg(index ORDER BY index), '[]')
           FROM results WHERE job_id = :id AND state = 'failed'""",
        id=job_id,
    )
    return list(found)


def test_one_item_that_kills_its_worker_fails_alone_among_ten_thousand(chaos: Chaos) -> None:
    texts = ["a text"] * ITEMS
    texts[POISON] = "segfault"
    job_id = chaos.order(texts)
    chaos.add_worker()
    chaos.settle(200)
    assert tuple(chaos.job(job_id)) == ("partial", ITEMS - 1, 1, 0)
    assert failed_indexes(chaos, job_id) == [POISON]
    assert chaos.count("SELECT error ->> 'code' FROM results WHERE state = 'failed'") == "worker-crashed"
    # in its unit, then twice alone
    assert chaos.count("SELECT count(*) FROM attempts WHERE outcome = 'crashed'") == 3
    assert chaos.state_of("worker") == "online"


def test_what_a_process_survives_costs_one_item_and_not_the_process(chaos: Chaos) -> None:
    orders = ["memory", "exit", "recursion"]
    job_id = chaos.order([*orders, *["a text"] * 5])
    chaos.add_worker()
    parent, child = chaos.pid("worker"), chaos.worker_child().pid
    chaos.settle()
    assert tuple(chaos.job(job_id)) == ("partial", 5, len(orders), 0)
    assert failed_indexes(chaos, job_id) == [0, 1, 2]
    # where the device is full, a smaller batch goes on
    job_id = chaos.order([f"device memory {room}" for room in (8, 4, 2, 1)] * 4)
    alone = chaos.order(["device memory 0"], Priority.INTERACTIVE)
    chaos.wait_until(lambda: chaos.job(job_id).state == "succeeded")
    chaos.wait_until(lambda: chaos.count("SELECT count(*) FROM attempts WHERE outcome = 'released'") > 0)
    # it does not fit even alone: until it is given up, it waits longer and longer
    cancel_job(chaos.sessions, alone)
    chaos.settle()
    assert (chaos.pid("worker"), chaos.worker_child().pid) == (parent, child)
    assert chaos.state_of("worker") == "online"


@pytest.mark.parametrize("order", ["hang", "stall"])
def test_code_that_hangs_is_killed_at_the_hard_limit(order: str, chaos: Chaos) -> None:
    chaos.add_worker(
        LENSQUEUE_LEASE_SECONDS="2", LENSQUEUE_HARD_LIMIT_SECONDS="4", LENSQUEUE_SLICE_SECONDS="1"
    )
    child = chaos.worker_child()
    hung = chaos.order([order], Priority.INTERACTIVE)
    chaos.wait_until(chaos.is_forward)
    chaos.wait_until(lambda: not child.is_running() or child.status() == "zombie", 30)
    # somebody takes the order back: what the hung child held is done by the next one
    chaos.change("UPDATE job_inputs SET items = replace(items::text, :order, 'calm')::jsonb", order=order)
    chaos.settle()
    assert chaos.job(hung).state == "succeeded"
    # being killed from outside is nobody's crash
    assert chaos.count("SELECT count(*) FROM attempts WHERE outcome = 'crashed'") == 0


@pytest.mark.parametrize("illness", ["segfault", "kill"])
def test_a_sick_host_beside_a_healthy_one_fails_nothing(illness: str, chaos: Chaos, tmp_path: Path) -> None:
    sickness = tmp_path / "sick"
    chaos.add_worker("sick", LENSQUEUE_CHAOS_SICK=str(sickness))
    sickness.write_text(illness)
    job_id = chaos.order(["a text"] * 2_000)
    alone = [chaos.order(["a text"], Priority.INTERACTIVE) for _ in range(5)]
    chaos.wait_until(lambda: chaos.count("SELECT count(*) FROM attempts WHERE outcome <> 'completed'") > 0)
    chaos.add_worker("healthy")
    chaos.settle(120)
    assert {chaos.job(each).state for each in (job_id, *alone)} == {"succeeded"}
    # it says of itself that it is sick, in words
    chaos.wait_until(lambda: chaos.state_of("sick") == "failed", 120)
    workers = chaos.client.get("/v1/workers").json()["items"]
    (sick,) = [worker for worker in workers if worker["state"] == "failed"]
    assert sick["error"]["code"] == "start-crashed"
    assert chaos.count("SELECT count(*) FROM work WHERE strikes > 0") == 0
