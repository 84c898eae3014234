"""A backup of a running service, restored into a new folder: all that was answered is answered again."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import RunningService
from tests.acceptance.standing import run
from tests.conftest import SAMPLES

# two services are started, one after the other
pytestmark = pytest.mark.timeout(400)
LENS = {
    "type": "logit_lens",
    "labels": ["cyan ring", "red diamond", "orange square"],
    "options": {"outputs": ["pooled", "patch", "embeddings"], "patch_layers": "all"},
}
PICTURES = [(f"scene-{n:05}", (SAMPLES / f"scene-{n:05}.jpg").read_bytes()) for n in range(3)]
READ = (
    "/results",
    "/results?format=ndjson",
    "/results?format=parquet",
    "/results?format=npz",
    "/items/0/overlay.png?label=cyan%20ring",
    "/items/2/thumbnail.jpg",
    "/request",
)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup, and what the service that it was made of had said before."""

    folder: Path
    key: str
    answered: dict[str, bytes]
    polled: dict[str, Any]
    done: dict[str, Any]
    queued: dict[str, Any]
    made_later: dict[str, Any]


def answers(service: RunningService, job: dict[str, Any]) -> dict[str, bytes]:
    self = job["links"]["self"]
    return {path: service.client.get(self + path).raise_for_status().content for path in READ}


@pytest.fixture(scope="module")
def backup(state_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """Made while the service runs, with a job that waits: its worker was told to end."""
    folder = tmp_path_factory.mktemp("backups") / "today"
    service = RunningService(state_folder / "before")
    try:
        done = service.finish(service.submit(LENS, PICTURES))
        service.stack.supervisor.end("worker")
        queued = service.submit(LENS, PICTURES[1:])
        answered, polled = answers(service, done), service.poll(done)
        made = run("backup", str(folder), "--state", str(service.stack.state))
        assert made.returncode == 0, made.stderr
        made_later = service.submit({"type": "embedding", "input": {"texts": ["a ring"]}})
        service.client.delete(done["links"]["self"]).raise_for_status()
        key = service.key
    finally:
        service.close()
    shutil.rmtree(state_folder / "before")
    return Backup(folder, key, answered, polled, done, queued, made_later)


@pytest.fixture(scope="module")
def restored(state_folder: Path, backup: Backup) -> Iterator[RunningService]:
    state = state_folder / "after"
    put_back = run("restore", str(backup.folder), "--state", str(state))
    assert put_back.returncode == 0, put_back.stderr
    service = RunningService(state)
    service.client.headers["Authorization"] = f"Bearer {backup.key}"
    try:
        yield service
    finally:
        service.close()


def test_results_and_files_are_the_same_byte_for_byte(restored: RunningService, backup: Backup) -> None:
    assert answers(restored, backup.done) == backup.answered
    # of the job itself, all but what is of the moment
    now = {"workers_online": 1}
    assert restored.poll(backup.done) | now == backup.polled | now


def test_a_job_that_was_queued_runs_to_its_end(restored: RunningService, backup: Backup) -> None:
    ended = restored.finish(backup.queued, seconds=90)
    assert (ended["state"], ended["progress"]["succeeded"]) == ("succeeded", 2)
    # of the pictures that the other job has: the same numbers, now computed from restored files
    before = json.loads(backup.answered["/results"])["items"][1:]
    assert [item["pooled"] for item in restored.items(ended)] == [item["pooled"] for item in before]


def test_what_came_after_the_backup_is_not_known(restored: RunningService, backup: Backup) -> None:
    assert restored.client.get(backup.made_later["links"]["self"]).status_code == 404


def test_new_jobs_are_taken(restored: RunningService) -> None:
    job = restored.submit({"type": "embedding", "input": {"texts": ["a ring"]}})
    assert restored.finish(job)["state"] == "succeeded"


def test_a_backup_is_read_by_its_owner_alone(backup: Backup) -> None:
    assert backup.folder.stat().st_mode & 0o777 == 0o700
