"""What workers say of themselves with their heartbeats, and what they count."""

import time
import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.errors import LabelsIndistinctError
from jobs import leases, workers
from jobs.blobs import BlobStore
from jobs.item_counts import Finished, count_finished
from models.queue import ANALYSIS
from models.types import Priority
from tests.faults import LOCK_WAITERS, change
from tests.ingestions import Ingest
from tests.integration.test_batch import allow_connections
from tests.ledger import MODEL, TENANT, scalar, submit_texts
from tests.packed import zip_of
from tests.runtimes import FailingEngine, runtime_of
from tests.scenes import tiny_pngs
from worker import analyst as analysing
from worker import time_slice
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat
from worker.memory import Memory

Sessions = sessionmaker[Session]


def start(sessions: Sessions, heartbeat: Heartbeat) -> None:
    with sessions.begin() as session:
        workers.register(session, heartbeat._worker_id, model=MODEL, device=None, dtype="float32")


def counted(sessions: Sessions) -> dict[tuple[str, str], tuple[int, int]]:
    """Succeeded and failed items by model and tenant, of all minutes."""
    query = "SELECT model, tenant, sum(succeeded), sum(failed) FROM item_minutes GROUP BY model, tenant"
    with sessions() as session:
        return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in session.execute(text(query))}


def vitals(sessions: Sessions) -> Any:
    query = "SELECT batch_fill, memory_bytes, memory_limit_bytes, finished FROM workers"
    with sessions() as session:
        return session.execute(text(query)).one()


def test_a_worker_tells_what_it_finished_by_tenant_and_how_full_its_batches_were(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    start(sessions, heartbeat)
    heartbeat.measure = lambda: Memory(3, 8)
    submit_texts(sessions, 12, priority=Priority.BULK)
    submit_texts(sessions, 4, priority=Priority.BULK, tenant="others")
    time_slice.run_slice(runtime_of(FailingEngine(), sessions, blobs, heartbeat, batch_items=16))
    refusing = FailingEngine(LabelsIndistinctError("two labels are one"), times=9)
    submit_texts(sessions, 2, priority=Priority.BULK)
    time_slice.run_slice(runtime_of(refusing, sessions, blobs, heartbeat, batch_items=16))
    heartbeat.stop()
    assert counted(sessions) == {(MODEL, TENANT): (12, 2), (MODEL, "others"): (4, 0)}
    heartbeat._memory = heartbeat._measured()
    heartbeat._beat()
    found = vitals(sessions)
    assert (found.memory_bytes, found.memory_limit_bytes, found.finished) == (3, 8, 18)
    assert found.batch_fill == pytest.approx(16 / 32), "what was refused was no batch"


def test_what_was_not_stored_is_not_counted(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    start(sessions, heartbeat)
    submit_texts(sessions)
    engine = FailingEngine()

    def lose_it() -> None:
        with sessions.begin() as session:
            token = session.scalars(text("SELECT token FROM leases")).one_or_none()
            if token is not None and not engine.batches:
                leases.release(session, token, "somebody took it", counts=False)

    engine.before = lose_it
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    heartbeat.stop()
    assert sum(len(batch) for batch in engine.batches) == 2, "once in vain"
    assert counted(sessions) == {(MODEL, TENANT): (1, 0)}


def test_counts_are_kept_while_the_database_is_away_and_told_at_the_end(
    sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    start(sessions, heartbeat)
    heartbeat.stop()
    submit_texts(sessions, 3, priority=Priority.BULK)
    time_slice.run_slice(runtime_of(FailingEngine(), sessions, blobs, heartbeat))
    allow_connections(sessions, allowed=False)
    heartbeat.stop()
    allow_connections(sessions, allowed=True)
    assert counted(sessions) == {}
    heartbeat.stop()
    assert counted(sessions) == {(MODEL, TENANT): (3, 0)}
    assert vitals(sessions).finished == 3


def test_a_count_that_is_held_up_costs_no_heartbeat(sessions: Sessions, heartbeat: Heartbeat) -> None:
    start(sessions, heartbeat)
    with sessions.begin() as frozen:
        count_finished(frozen, uuid.uuid4(), MODEL, {TENANT: Finished(1)})
        heartbeat.tally.put({MODEL: {TENANT: Finished(2, 1)}})
        while not scalar(sessions, LOCK_WAITERS):
            time.sleep(0.02)
        change(sessions, "UPDATE workers SET seen_at = now() - interval '1 hour'")
        heartbeat._beat()
        assert scalar(sessions, "SELECT seen_at > now() - interval '1 minute' FROM workers")
    heartbeat.stop()
    assert counted(sessions) == {(MODEL, TENANT): (3, 1)}


def test_a_worker_that_starts_again_counts_anew_and_one_of_which_the_child_does_goes_on(
    sessions: Sessions, heartbeat: Heartbeat
) -> None:
    start(sessions, heartbeat)
    change(sessions, "UPDATE workers SET finished = 7, started_at = now() - interval '1 hour'")
    with sessions.begin() as session:
        workers.register(
            session, heartbeat._worker_id, model=MODEL, device=None, dtype="float32", draining_ends=False
        )
    assert vitals(sessions).finished == 7
    start(sessions, heartbeat)
    assert vitals(sessions).finished == 0
    assert scalar(sessions, "SELECT started_at > now() - interval '1 minute' FROM workers")


def test_an_analyst_counts_too(sessions: Sessions, analyst: Analyst, ingest: Ingest) -> None:
    ingest(zip_of(tiny_pngs(2)))
    analysing.run_slice(analyst)
    analyst.heartbeat.stop()
    assert counted(sessions) == {(ANALYSIS, TENANT): (1, 0)}
