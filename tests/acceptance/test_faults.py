"""Processes that die in the middle of a job: the job still ends, and every item counts once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.processes import worker_env
from tests.acceptance.conftest import LEASE_SECONDS, RunningService
from tests.conftest import SAMPLES
from tests.ledger import assert_settled, scalar
from tests.processes import is_alive

pytestmark = [pytest.mark.chaos, pytest.mark.slow_chaos]
ITEMS = 240


def submit_and_wait_for_some(service: RunningService) -> dict[str, Any]:
    """A lens over many pictures, of which some are done and others are not."""
    samples = sorted(SAMPLES.glob("*.jpg"))
    pictures = [(f"{number}", samples[number % len(samples)].read_bytes()) for number in range(ITEMS)]
    job = service.submit({"type": "logit_lens", "labels": ["cyan ring", "red diamond"]}, pictures)
    service.wait_until(lambda: service.poll(job)["progress"]["succeeded"] > 0)
    assert not service.poll(job)["done"]
    return job


def suspend_in_the_middle_of_a_unit(service: RunningService) -> psutil.Process:
    """The worker's child, stopped while it holds a lease."""
    child = service.worker_child()
    while True:
        child.suspend()
        if scalar(service.sessions, "SELECT count(*) FROM leases"):
            return child
        child.resume()


def assert_every_item_once(service: RunningService, job: dict[str, Any]) -> None:
    ended = service.finish(job)
    assert ended["state"] == "succeeded"
    assert ended["progress"]["succeeded"] == ITEMS
    assert [item["index"] for item in service.items(job)] == list(range(ITEMS))
    assert_settled(service.sessions)


def test_a_killed_child_loses_nothing(service: RunningService) -> None:
    job = submit_and_wait_for_some(service)
    lost = scalar(service.sessions, "SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    child = suspend_in_the_middle_of_a_unit(service)
    child.send_signal(signal.SIGKILL)
    assert_every_item_once(service, job)
    assert scalar(service.sessions, "SELECT count(*) FROM attempts WHERE outcome = 'lost'") > lost


def test_a_killed_worker_leaves_no_process_and_loses_nothing(service: RunningService) -> None:
    job = submit_and_wait_for_some(service)
    pid = service.stack.pid("worker")
    assert pid is not None
    # the child that holds the model, and its decoders
    family = [process.pid for process in psutil.Process(pid).children(recursive=True)]
    assert len(family) > 1
    os.kill(pid, signal.SIGKILL)
    service.wait_until(lambda: not any(is_alive(process) for process in family), seconds=5)
    assert_every_item_once(service, job)


def test_a_broker_killed_with_its_data_lost_loses_nothing(service: RunningService) -> None:
    job = submit_and_wait_for_some(service)
    queued = service.submit({"type": "embedding", "input": {"texts": ["a ring"]}})
    pid = service.stack.pid("valkey")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for entry in service.stack.folders.valkey.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    while_away = service.submit({"type": "embedding", "input": {"texts": ["a heart"]}})
    for other in (queued, while_away):
        assert service.finish(other)["state"] == "succeeded"
    assert_every_item_once(service, job)
    later = service.submit({"type": "embedding", "input": {"texts": ["a star"]}})
    assert service.finish(later)["state"] == "succeeded"


def test_a_stopped_worker_that_comes_back_late_changes_nothing(service: RunningService) -> None:
    job = submit_and_wait_for_some(service)
    child = suspend_in_the_middle_of_a_unit(service)
    service.wait_until(
        lambda: scalar(service.sessions, "SELECT count(*) FROM leases") == 0, seconds=10 * LEASE_SECONDS
    )
    child.resume()
    assert_every_item_once(service, job)


def test_a_child_that_starts_while_the_database_is_away_takes_no_work_it_cannot_do(
    service: RunningService,
) -> None:
    child = service.worker_child()
    pid = service.stack.pid("postgres")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    child.kill()
    # nobody watches, so Postgres stays away until the new child has tried
    time.sleep(2 * LEASE_SECONDS)
    service.wait_until(service.is_ready, seconds=90)
    job = service.submit({"type": "embedding", "input": {"texts": ["a ring"]}})
    assert service.finish(job)["state"] == "succeeded"


def test_a_worker_told_to_end_finishes_its_unit_and_claims_no_more(service: RunningService) -> None:
    job = submit_and_wait_for_some(service)
    pid = service.stack.pid("worker")
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    worker = psutil.Process(pid)
    service.wait_until(lambda: service.stack.pid("worker") != pid or not worker.is_running(), seconds=15)
    assert scalar(service.sessions, "SELECT count(*) FROM attempts WHERE outcome IS NULL") == 0
    assert_every_item_once(service, job)


@pytest.fixture
def broken_checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "broken"
    folder.mkdir()
    return folder


def test_a_worker_that_cannot_load_says_why_and_leaves_its_jobs_queued(
    service: RunningService, broken_checkpoint: Path
) -> None:
    model = "google/siglip-base-patch16-224"
    job = service.submit({"type": "embedding", "model": model, "input": {"texts": ["a ring"]}})
    assert job["workers_online"] == 0
    env = service.env | {"LENSQUEUE_MODEL_PATHS": f'{{"{model}": "{broken_checkpoint}"}}'}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "worker", "--model", model],
        env=env | worker_env(model),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert f"cannot load {model}" in last
    (worker,) = [
        worker for worker in service.client.get("/v1/workers").json()["items"] if worker["model"] == model
    ]
    assert (worker["state"], worker["error"]["code"]) == ("failed", "model-load-failed")
    assert worker["error"]["message"] in last
    assert service.poll(job)["state"] == "queued"
    # let the ledger be empty for the tests that follow
    with service.sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs WHERE state = 'queued'")
