"""A worker whose engine crashes, hangs and runs out of memory on order; its leases last for minutes."""

import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.processes import worker_env
from jobs import workers
from tests.acceptance.conftest import free_port
from tests.acceptance.workplace import Workplace
from tests.ledger import assert_settled, read, scalar

pytestmark = [pytest.mark.chaos, pytest.mark.slow_chaos]

HARD_LIMIT_SECONDS = 4
PROMPT_SECONDS = 5.0
HEARD_SECONDS = 60.0
METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def place(state_folder: Path) -> Iterator[Workplace]:
    limits = {
        "LENSQUEUE_SLICE_SECONDS": "1",
        "LENSQUEUE_HARD_LIMIT_SECONDS": str(HARD_LIMIT_SECONDS),
        "LENSQUEUE_METRICS_PORT": str(METRICS_PORT),
    }
    with Workplace(state_folder / "troubled", **limits) as running:
        yield running


def test_what_a_killed_child_held_waits_again_at_once(place: Workplace) -> None:
    job = place.submit("sleep 3")
    place.wait_until_begun()
    place.child().kill()
    place.wait_until(lambda: place.leases() == 0, PROMPT_SECONDS)
    told = scalar(place.sessions, "SELECT outcome || ': ' || reason FROM attempts WHERE job_id = :id", id=job)
    assert told.startswith("lost: it died of SIGKILL")
    assert place.finish(job).state == "succeeded"
    assert_settled(place.sessions)
    # counted by the next child, which serves on the same port
    told = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    assert re.search(r'^lensqueue_worker_claims_total{.*outcome="completed"} 1.0$', told, re.MULTILINE)


@pytest.mark.timeout(300)
def test_an_item_that_crashes_healthy_workers_fails_alone(place: Workplace) -> None:
    parent = place.parent()
    bad = place.submit(f"signal {signal.SIGSEGV.value}")
    good = [place.submit(f"text {number}") for number in range(3)]
    ended = place.finish(bad, seconds=200)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "worker-crashed")
    assert {place.finish(job).state for job in good} == {"succeeded"}
    query = "SELECT count(*) FROM attempts WHERE job_id = :id AND outcome = 'crashed' AND judged"
    assert scalar(place.sessions, query, id=bad) == 3
    assert place.parent() == parent
    assert_settled(place.sessions)


@pytest.mark.timeout(400)
def test_one_item_that_crashes_in_a_large_unit_fails_alone(place: Workplace) -> None:
    texts = [f"text {number}" for number in range(100)]
    texts[42] = f"signal {signal.SIGABRT.value}"
    job = place.submit(*texts)
    ended = place.finish(job, seconds=300)
    assert (ended.state, ended.failed) == ("partial", 1)
    failed = "SELECT index FROM results WHERE job_id = :id AND state = 'failed'"
    assert scalar(place.sessions, failed, id=job) == 42
    assert_settled(place.sessions)


@pytest.mark.parametrize("error", ["memory", "recursion", "exit", "device-memory"])
def test_no_error_of_a_batch_ends_the_worker(error: str, place: Workplace, tmp_path: Path) -> None:
    before = (place.parent(), place.child())
    job = place.submit(f"raise {error} {tmp_path / 'once'}", "a text")
    assert place.finish(job).state == "succeeded"
    assert (place.parent(), place.child()) == before
    assert_settled(place.sessions)


def test_a_hung_call_is_killed_at_the_hard_limit_and_its_work_comes_back(
    place: Workplace, tmp_path: Path
) -> None:
    child = place.child()
    job = place.submit(f"hang {tmp_path / 'once'}")
    place.wait_until_begun()
    assert place.finish(job, seconds=60).state == "succeeded"
    assert not child.is_running()
    assert_settled(place.sessions)


def test_a_killed_worker_takes_back_what_it_held_when_it_is_started_again(state_folder: Path) -> None:
    with Workplace(state_folder / "named", LENSQUEUE_WORKER_ID=str(uuid.uuid4())) as place:
        job = place.submit("sleep 3")
        place.wait_until_begun()
        place.parent().kill()
        assert place.finish(job).state == "succeeded"
        assert_settled(place.sessions)


def test_a_draining_worker_finishes_what_it_holds_and_claims_no_more(state_folder: Path) -> None:
    with Workplace(state_folder / "draining") as place:
        held = place.submit("sleep 3")
        place.wait_until_begun()
        worker_id = scalar(place.sessions, "SELECT id FROM workers")
        with place.sessions.begin() as session:
            assert workers.drain(session, worker_id)
        assert place.finish(held).state == "succeeded"
        waiting = place.submit("a text")
        time.sleep(4)
        assert read(place.sessions, waiting).state == "queued"
        assert place.worker_state() == "draining"
        place.child().kill()
        killed = scalar(place.sessions, "SELECT now()")
        # however late on a busy machine: it must speak again, and still say so
        spoke = "SELECT seen_at > :killed + interval '3 s' FROM workers"
        place.wait_until(lambda: scalar(place.sessions, spoke, killed=killed), HEARD_SECONDS)
        assert place.worker_state() == "draining"


def test_a_worker_that_fails_its_canary_says_so_and_claims_nothing(place: Workplace) -> None:
    model = "google/siglip-base-patch16-224"
    job = place.submit("a ring", model=model)
    env = place.env | worker_env(model) | {"LENSQUEUE_ENGINE": "tests.engines:SickEngine"}
    done = subprocess.run(
        [sys.executable, "-m", "worker"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "differ from one run to the next" in done.stderr.strip().splitlines()[-1]
    query = "SELECT state || ' ' || (error ->> 'code') FROM workers WHERE model = :model"
    assert scalar(place.sessions, query, model=model) == "failed canary-failed"
    assert read(place.sessions, job).state == "queued"
    with place.sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs WHERE state = 'queued'")
