"""Claims that hold work of several jobs: one pass, results parted, and what goes wrong kept apart."""

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs import leases, workers
from jobs.blobs import BlobStore
from jobs.cancel import cancel
from jobs.images import Content
from jobs.maps import maps_of, read_scores, read_thumbnail
from jobs.submission import ImageItem, Submission, TextItem
from models.types import JobState, JobType, Priority
from tests.conftest import SAMPLES
from tests.ledger import MODEL, TENANT, admit_and_submit, assert_settled, read, scalar, submit_texts
from tests.runtimes import FailingEngine, runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat
from worker.runtime import open_decoders

Sessions = sessionmaker[Session]


def due(sessions: Sessions) -> None:
    """Let what waits for a later moment be claimable now."""
    with sessions.begin() as session:
        session.execute(text("UPDATE work SET run_at = now()"))


def test_single_items_of_many_jobs_share_one_pass(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    jobs = [submit_texts(sessions, tenant=f"tenant {number % 2}") for number in range(6)]
    engine = FailingEngine()
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert [len(texts) for texts in engine.batches] == [6]
    assert {read(sessions, job).state for job in jobs} == {JobState.SUCCEEDED}
    assert_settled(sessions)


def test_a_batch_without_room_is_halved_and_the_next_one_is_smaller_from_the_start(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job = submit_texts(sessions, 32, priority=Priority.BULK)
    engine = FailingEngine()
    engine.room = 5
    runtime = runtime_of(engine, sessions, blobs, heartbeat)
    time_slice.run_slice(runtime)
    assert read(sessions, job).state == JobState.SUCCEEDED
    assert sum(len(texts) for texts in engine.batches if len(texts) <= 5) == 32
    engine.batches.clear()
    submit_texts(sessions, 32, priority=Priority.BULK)
    time_slice.run_slice(runtime)
    assert len(engine.batches[0]) < 10
    assert_settled(sessions)


def test_an_item_that_fails_a_pass_keeps_no_other_job_from_its_end(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    good = [submit_texts(sessions) for _ in range(5)]
    bad = admit_and_submit(
        sessions,
        Submission(JobType.EMBEDDING, MODEL, [TextItem("poison")], {"normalize": True}),
    )
    engine = FailingEngine()
    engine.poison = "poison"
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert {read(sessions, job).state for job in good} == {JobState.SUCCEEDED}
    assert read(sessions, bad).state == JobState.RUNNING
    assert scalar(sessions, "SELECT reason FROM attempts WHERE outcome = 'released'") == "RecursionError: "
    assert scalar(sessions, "SELECT losses FROM work") == 1


def test_an_item_that_fails_again_and_again_fails_alone_in_its_unit(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job = submit_texts(sessions, 4, priority=Priority.BULK)
    engine = FailingEngine()
    engine.poison = "text 2"
    for _ in range(3):
        time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
        due(sessions)
    ended = read(sessions, job)
    assert (ended.state, ended.succeeded, ended.failed) == (JobState.PARTIAL, 3, 1)
    assert scalar(sessions, "SELECT error ->> 'code' FROM results WHERE index = 2") == "inference-failed"
    assert_settled(sessions)


def test_a_running_job_that_is_cancelled_stops_between_two_passes(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job = submit_texts(sessions, 10, priority=Priority.BULK)
    engine = FailingEngine()

    def cancel_it() -> None:
        if not engine.batches:
            with sessions.begin() as session:
                cancel(session, TENANT, job)
            time.sleep(0.5)

    engine.before = cancel_it
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=1))
    assert len(engine.batches) == 1
    ended = read(sessions, job)
    assert (ended.state, ended.dropped) == (JobState.CANCELLED, 10)
    assert_settled(sessions)


def test_a_lease_that_was_lost_ends_the_work_on_it(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions, 10, priority=Priority.BULK)
    engine = FailingEngine()

    def lose_it() -> None:
        if not engine.batches:
            with sessions.begin() as session:
                token = session.scalars(text("SELECT token FROM leases")).one()
                leases.release(session, token, "somebody took it")
            time.sleep(0.5)

    engine.before = lose_it
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat, batch_items=1))
    assert len(engine.batches) == 1
    assert scalar(sessions, "SELECT count(*) FROM results") == 0


def test_a_lease_without_progress_is_renewed_no_more_and_the_log_says_so(
    sessions: Sessions, blobs: BlobStore
) -> None:
    submit_texts(sessions)
    beating = Heartbeat(sessions, uuid.uuid4(), every_seconds=0.05, stall_seconds=0.3)
    seen: list[Any] = []
    engine = FailingEngine()

    def hang() -> None:
        time.sleep(0.6)
        for _ in range(2):
            seen.append(scalar(sessions, "SELECT until FROM leases"))
            time.sleep(0.4)

    engine.before = hang
    with structlog.testing.capture_logs() as logs:
        time_slice.run_slice(runtime_of(engine, sessions, blobs, beating))
    beating.stop()
    assert seen[0] == seen[1]
    assert [log["event"] for log in logs].count("lease.stalled") == 1


def test_a_worker_measures_its_pace_and_reports_it(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    with sessions.begin() as session:
        workers.register(session, heartbeat._worker_id, model=MODEL, device=None, dtype="float32")
    submit_texts(sessions)
    cost = scalar(sessions, "SELECT cost FROM work")
    engine = FailingEngine()
    engine.before = lambda: time.sleep(0.2)
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    time.sleep(0.3)
    assert scalar(sessions, "SELECT seconds_per_gflop FROM workers") >= 0.2 / cost


def test_maps_of_jobs_that_shared_a_pass_lie_in_an_object_of_each(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat, demo_engine: SiglipEngine
) -> None:
    options = {
        "labels": ["cyan ring", "red diamond"],
        "template": "{}",
        "outputs": ["pooled", "patch"],
        "layers": "all",
        "patch_layers": None,
        "patch_method": "head",
    }
    jobs = []
    for number in range(3):
        data = (SAMPLES / f"scene-0000{number}.jpg").read_bytes()
        stored = Content(blobs.put(TENANT, data), len(data), "image/jpeg")
        items = [ImageItem(stored)]
        jobs.append(admit_and_submit(sessions, Submission(JobType.LOGIT_LENS, MODEL, items, options)))
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    with open_decoders(runtime.settings, demo_engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))
    scores = []
    for job in jobs:
        with sessions() as session:
            payload = session.scalar(text("SELECT payload FROM results WHERE job_id = :id"), {"id": job})
        maps = maps_of(TENANT, job, payload)
        assert read_thumbnail(blobs, maps).startswith(b"\xff\xd8")
        scores.append(read_scores(blobs, maps))
    assert scalar(sessions, "SELECT count(DISTINCT lease_token) FROM attempts") == 1
    assert (scores[0] != scores[1]).any()
    assert_settled(sessions)
    folders = {path.parent.name for path in Path(blobs.folder).rglob("objects/*/*/*")}
    assert folders == {job.hex for job in jobs}


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")
