"""An analyst's process: killed, drained or told to end in the midst of an archive, it adds each item once."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from cli.processes import worker_env
from jobs import image_sets, ingesting
from jobs.blobs import BlobStore
from jobs.ingesting import NewSource, SourceForm
from jobs.workers import drain
from models.queue import ANALYSIS
from tests.acceptance.standing import run
from tests.acceptance.workplace import Workplace
from tests.faults import change
from tests.ingestions import keep
from tests.ledger import TENANT, assert_settled, scalar
from tests.packed import zip_of
from tests.scenes import tiny_pngs

ITEMS = 5_000
WAITERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%image_sets%'
"""


@pytest.fixture(scope="module")
def workplace(state_folder: Path) -> Iterator[Workplace]:
    worker_id = str(uuid.uuid4())
    with Workplace(state_folder / "analyst", serving=ANALYSIS, LENSQUEUE_WORKER_ID=worker_id) as running:
        yield running


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    """An empty ledger, and an analyst."""
    change(workplace.sessions, "TRUNCATE jobs, leases, attempts, image_sets CASCADE")
    return workplace


def submit(place: Workplace, archive: bytes) -> uuid.UUID:
    stored = keep(BlobStore(place.stack.folders.blobs), archive)
    with place.sessions.begin() as session:
        made = image_sets.create_set(session, TENANT, "many")
        source = NewSource("many", SourceForm.ARCHIVE, stored)
        return ingesting.submit_ingest(session, TENANT, made.id, [source]).id


def added(place: Workplace) -> int:
    return int(scalar(place.sessions, "SELECT count(*) FROM image_set_items"))


def wait_for_more(place: Workplace) -> None:
    before = added(place)
    place.wait_until(lambda: added(place) > before, 60)


def hear_again(place: Workplace) -> None:
    """Wait until the worker knows what it was told: it asks with every heartbeat."""
    for _ in range(2):
        now = scalar(place.sessions, "SELECT now()")
        place.wait_until(partial(is_heard_since, place, now), 30)


def is_heard_since(place: Workplace, now: datetime) -> bool:
    return bool(scalar(place.sessions, "SELECT max(seen_at) > :now FROM workers", now=now))


@contextmanager
def stopped_in_a_chunk(place: Workplace) -> Iterator[None]:
    """Some are added, and the next chunk waits to be until this is left."""
    wait_for_more(place)
    with place.sessions() as session:
        session.execute(text("SELECT FROM image_sets FOR UPDATE"))
        place.wait_until(lambda: scalar(place.sessions, WAITERS) > 0, 30)
        assert added(place) < ITEMS
        yield


def assert_each_once(place: Workplace, files: dict[str, bytes]) -> None:
    with place.sessions() as session:
        names = session.scalars(text("SELECT custom_id FROM image_set_items ORDER BY index")).all()
        wrong = session.scalar(text("SELECT count(*) FROM image_set_items WHERE error IS NOT NULL"))
    assert names == list(files)
    assert wrong == 0
    assert scalar(place.sessions, "SELECT payload ->> 'added' FROM results") == str(len(files))
    assert scalar(place.sessions, "SELECT items FROM image_set_versions") == len(files)


@pytest.mark.slow_chaos
def test_a_killed_analyst_goes_on_where_it_was(place: Workplace) -> None:
    files = tiny_pngs(ITEMS)
    job_id = submit(place, zip_of(files))
    for victim in (place.child, place.parent, place.child):
        with stopped_in_a_chunk(place):
            victim().kill()
    assert place.finish(job_id, 120).state == "succeeded"
    assert_each_once(place, files)
    lost = "SELECT count(*) FROM attempts WHERE outcome = 'lost'"
    assert scalar(place.sessions, lost) == 3
    assert_settled(place.sessions)


@pytest.mark.slow_chaos
def test_an_analyst_that_is_told_to_end_leaves_its_work_to_the_next(place: Workplace) -> None:
    files = tiny_pngs(ITEMS)
    job_id = submit(place, zip_of(files))
    old = place.parent()
    with stopped_in_a_chunk(place):
        old.send_signal(signal.SIGTERM)
        hear_again(place)
    assert place.finish(job_id, 120).state == "succeeded"
    place.wait_until(lambda: not old.is_running(), 30)
    assert_each_once(place, files)
    assert scalar(place.sessions, "SELECT count(*) FROM attempts WHERE outcome = 'lost'") == 0
    assert_settled(place.sessions)


def test_an_analyst_holds_no_model(place: Workplace) -> None:
    device = scalar(place.sessions, "SELECT device FROM workers WHERE model = 'analysis'")
    assert device == "cpu"
    loaded = [mapped.path for mapped in psutil.Process(place.child().pid).memory_maps()]
    assert not [path for path in loaded if "torch" in path]


def test_an_analyst_without_a_blob_store_says_so(place: Workplace, tmp_path: Path) -> None:
    env = place.env | worker_env(ANALYSIS) | {"LENSQUEUE_BLOBS": str(tmp_path / "nowhere")}
    env["LENSQUEUE_WORKER_ID"] = str(uuid.uuid4())
    done = subprocess.run(
        [sys.executable, "-m", "worker"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "cannot work" in done.stderr.strip().splitlines()[-1]
    assert "is not a blob store" in done.stderr


@pytest.mark.slow_chaos
def test_an_analyst_that_drains_puts_its_work_back_and_claims_no_more(place: Workplace) -> None:
    job_id = submit(place, zip_of(tiny_pngs(ITEMS)))
    worker_id = scalar(place.sessions, "SELECT id FROM workers WHERE state = 'online'")
    with stopped_in_a_chunk(place):
        with place.sessions.begin() as session:
            assert drain(session, worker_id)
        hear_again(place)
    place.wait_until(lambda: place.leases() == 0, 30)
    assert 0 < added(place) < ITEMS
    assert scalar(place.sessions, "SELECT state FROM jobs WHERE id = :id", id=job_id) == "running"
    assert place.worker_state() == "draining"
    # and the others of this module have a worker again
    place.parent().terminate()
    place.wait_until(lambda: place.worker_state() == "online", 60)


def test_a_worker_is_told_its_model_or_its_queue() -> None:
    for given in ((), ("--model", "lensqueue/siglip-tiny-shapes", "--queue", ANALYSIS)):
        refused = run("worker", *given)
        assert refused.returncode == 1
        assert "--queue analysis" in refused.stderr
