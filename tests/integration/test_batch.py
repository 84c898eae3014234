"""A worker's unit against the real ledger, with engines that fail on order."""

import threading
import time
from typing import Any

import pytest
import torch
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from engine.errors import LabelsIndistinctError, OutOfMemoryError
from jobs import recovery, workers
from jobs.blobs import BlobStore
from models.types import JobState, Priority
from tests.ledger import MODEL, assert_settled, read, scalar, submit_texts
from tests.runtimes import FailingEngine, runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError(), OutOfMemoryError("no room"), SystemExit(1)]
)
def test_a_fault_that_may_pass_gives_the_work_back(
    error: BaseException, sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    # both together, and each of them alone
    runtime = runtime_of(FailingEngine(error, times=3), sessions, blobs, heartbeat)
    assert not time_slice.run_slice(runtime)
    assert read(sessions, job_id).state == JobState.RUNNING
    assert scalar(sessions, "SELECT outcome FROM attempts") == "released"
    with sessions.begin() as session:
        session.execute(text("UPDATE work SET run_at = now()"))
    time_slice.run_slice(runtime)
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def test_a_fault_that_stays_fails_the_items_in_the_end_and_hides_its_text(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    runtime = runtime_of(FailingEngine(RuntimeError("a secret"), times=100), sessions, blobs, heartbeat)
    for _ in range(recovery.MAX_LOSSES):
        time_slice.run_slice(runtime)
        assert read(sessions, job_id).state == JobState.RUNNING
        with sessions.begin() as session:
            session.execute(text("UPDATE work SET run_at = now()"))
    with sessions.begin() as session:
        assert recovery.fail_hopeless(session) == 1
    job = read(sessions, job_id)
    assert (job.state, job.failed) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error["code"] == "inference-failed"
    assert "a secret" not in job.error["message"]
    assert_settled(sessions)


def test_what_the_engine_refuses_is_an_error_of_the_items_at_once(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions, 2, priority=Priority.BULK)
    refusing = FailingEngine(LabelsIndistinctError("two labels are one"), times=3)
    time_slice.run_slice(runtime_of(refusing, sessions, blobs, heartbeat))
    job = read(sessions, job_id)
    assert job.error is not None
    assert (job.state, job.error["code"], job.provenance) == ("failed", "labels-indistinct", None)
    assert_settled(sessions)


def test_a_worker_told_to_end_claims_no_more(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    for _ in range(3):
        submit_texts(sessions)
    engine = FailingEngine()
    runtime = runtime_of(engine, sessions, blobs, heartbeat, batch_items=1)
    with sessions.begin() as session:
        workers.register(session, heartbeat._worker_id, model=MODEL, device=None, dtype="float32")

    def told() -> None:
        with sessions.begin() as session:
            workers.report_offline(session, heartbeat._worker_id)
        time.sleep(0.5)

    engine.before = told
    assert time_slice.run_slice(runtime)
    assert scalar(sessions, "SELECT count(*) FROM work") == 2


def test_numbers_that_are_not_finite_are_an_error_of_the_item(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions)
    time_slice.run_slice(runtime_of(FailingEngine(value=float("nan")), sessions, blobs, heartbeat))
    job = read(sessions, job_id)
    assert job.error is not None
    assert job.error["code"] == "result-not-finite"
    assert_settled(sessions)


def test_a_slice_ends_with_its_time_and_says_that_work_may_wait(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    for _ in range(3):
        submit_texts(sessions)
    runtime = runtime_of(FailingEngine(), sessions, blobs, heartbeat, slice_seconds=0, batch_items=1)
    assert time_slice.run_slice(runtime)
    assert scalar(sessions, "SELECT count(*) FROM work") == 2


def test_the_heartbeat_renews_the_lease_of_a_long_unit(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    submit_texts(sessions)
    seen: list[Any] = []
    engine = FailingEngine()

    def look_twice() -> None:
        for _ in range(2):
            seen.append(scalar(sessions, "SELECT until FROM leases"))
            time.sleep(0.5)

    engine.before = look_twice
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert seen[0] < seen[1]


def test_computed_results_are_kept_while_the_database_is_away(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions)
    computed: list[float] = []
    engine = FailingEngine()

    def lose_the_database() -> None:
        computed.append(time.monotonic())
        allow_connections(sessions, False)
        threading.Timer(1.5, allow_connections, (sessions, True)).start()

    engine.before = lose_the_database
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    assert len(computed) == 1
    assert read(sessions, job_id).state == JobState.SUCCEEDED
    assert_settled(sessions)


def allow_connections(sessions: sessionmaker[Session], allowed: bool) -> None:
    """Open or close the database of these sessions, seen from another one; closing ends what is connected."""
    url = sessions.kw["bind"].url
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {allowed}")
        if not allowed:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": url.database},
            )
    admin.dispose()


class PoisonedEngine(FailingEngine):
    """Fails on texts of which it is told; the others are no trouble."""

    def __init__(self, bad: set[str]) -> None:
        super().__init__()
        self.bad = bad

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        if self.bad & set(texts):
            raise MemoryError
        return super().embed_text(texts)


def test_good_items_behind_bad_ones_succeed_in_the_end(
    sessions: sessionmaker[Session], blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    job_id = submit_texts(sessions, 6, priority=Priority.BULK)
    engine = PoisonedEngine({"text 0", "text 1", "text 2"})
    runtime = runtime_of(engine, sessions, blobs, heartbeat)
    for _ in range(3):
        time_slice.run_slice(runtime)
        with sessions.begin() as session:
            session.execute(text("UPDATE work SET run_at = now()"))
    job = read(sessions, job_id)
    assert (job.state, job.succeeded, job.failed) == (JobState.PARTIAL, 3, 3)
    assert_settled(sessions)
