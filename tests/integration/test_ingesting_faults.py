"""Ingestions that are left, overtaken, broken off or tried again: gone on with where they were."""

import errno
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from engine.catalog import Catalog
from jobs import ingesting, retry, sealing, sources, unpacking
from jobs.admission import Quota
from jobs.blobs import BlobStore
from jobs.cancel import cancel
from jobs.errors import AlreadyRetriedError, BlobStoreMissingError, NotEndedError
from jobs.ingesting import NewSource, OvertakenError, Progress, Target
from jobs.retry import Retry, RetryScope
from jobs.sources import Stored
from jobs.units import Admission
from models.job import Job
from tests.faults import cancel_job, in_thread
from tests.ingestions import ARCHIVE, MANIFEST, Ingest, Sessions, items_of, keep, result_of
from tests.ledger import TENANT, assert_settled, read, scalar
from tests.packed import tar_gz_of, tar_of, zip_of
from tests.scenes import tiny_png, tiny_pngs
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst


def left_at_every_chunk(analyst: Analyst, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Chunks of a size, and an analyst that leaves its work after each."""
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", size)
    monkeypatch.setattr(Analyst, "is_to_pause", lambda *_: True)


def try_again(sessions: Sessions, job_id: uuid.UUID, scope: RetryScope = RetryScope.FAILED_ITEMS) -> Job:
    with sessions.begin() as session:
        found = find_again(session, job_id, scope)
    with sessions.begin() as session:
        return store_again(session, found)


def find_again(
    session: Session, job_id: uuid.UUID, scope: RetryScope = RetryScope.FAILED_ITEMS
) -> tuple[Retry, Admission]:
    wanted = retry.find_retry(session, TENANT, job_id, scope, None)
    return wanted, retry.admit_retry(session, wanted, Catalog(), Quota(), reserve_as="")


def store_again(session: Session, found: tuple[Retry, Admission]) -> Job:
    return retry.store_retry(session, *found)


def test_work_that_is_left_after_every_chunk_comes_to_the_same(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_at_every_chunk(analyst, monkeypatch, 3)
    shard = {
        f"{number}.{kind}": tiny_png(number) if kind == "png" else b"1"
        for number in range(10)
        for kind in ("cls", "png")
    }
    jobs = [ingest(pack(shard)) for pack in (zip_of, tar_of, tar_gz_of)]
    files = [{"file": f"{number}.png", "custom_id": f"named {number}"} for number in range(12)]
    lines = [{"sha256": "0" * 64}] * 4
    jobs.append(ingest(b"\n".join(map(orjson.dumps, [*files, *lines])), MANIFEST, tar_gz_of(shard)))
    run_slice(analyst)
    assert [result_of(sessions, job_id) for job_id in jobs] == [
        {"added": 10, "there": 0, "failed": 0, "skipped": 0, "first": 0},
        # the same as those of the first
        {"added": 0, "there": 10, "failed": 0, "skipped": 0, "first": None},
        {"added": 0, "there": 10, "failed": 0, "skipped": 0, "first": None},
        {"added": 10, "there": 0, "failed": 6, "skipped": 10, "first": 10},
    ]
    items = items_of(sessions, set_id)
    assert len(items) == 26
    assert [item.true_label for item in items[:10]] == ["1"] * 10
    assert scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome = 'released'") >= 12
    assert (
        scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome NOT IN ('released', 'completed')") == 0
    )
    assert_settled(sessions)


def test_whoever_was_overtaken_adds_nothing(
    sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, blobs: BlobStore
) -> None:
    job_id = ingest(zip_of(tiny_pngs(5)))
    with sessions.begin() as session:
        options = session.get_one(Job, job_id).options
        target = Target(TENANT, job_id, 0, set_id, uuid.UUID(options["version_id"]), 100)
        before = ingesting.read_progress(session, target)
        stored = session.scalars(text("SELECT items -> 0 ->> 'stored' FROM job_inputs")).one()
    with sources.open_source(blobs, TENANT, uuid.UUID(stored)) as file:
        reading = unpacking.Reading(ARCHIVE, file, lambda data: blobs.put(TENANT, data), lambda: None)
        (chunk,) = unpacking.chunks_of(reading, before)
    with sessions.begin() as session:
        after = ingesting.add_chunk(session, target, before, chunk)
    assert after.added == 5
    with sessions() as session, pytest.raises(OvertakenError):
        ingesting.add_chunk(session, target, before, chunk)
    assert len(items_of(sessions, set_id)) == 5


def test_what_was_added_in_full_is_not_read_again(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    job_id = ingest(zip_of(tiny_pngs(3)))
    whole = {"phase": "done", "place": 0, "key": "", "added": 3, "failed": 0, "skipped": 0, "first": 0}
    with sessions.begin() as session:
        progress = text(
            "UPDATE job_inputs SET items = jsonb_set(items, '{0,progress}', CAST(:told AS jsonb))"
        )
        session.execute(progress, {"told": orjson.dumps(whole).decode()})
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 3, "there": 0, "failed": 0, "skipped": 0, "first": 0}
    assert items_of(sessions, set_id) == []


def test_a_source_that_is_gone_fails_alone(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, blobs: BlobStore
) -> None:
    there, gone = keep(blobs, zip_of(tiny_pngs(1))), Stored(uuid.uuid4(), 10)
    with sessions.begin() as session:
        both = [NewSource("gone", ARCHIVE, gone), NewSource("there", ARCHIVE, there)]
        job_id = ingesting.submit_ingest(session, TENANT, set_id, both).id
    run_slice(analyst)
    job = read(sessions, job_id)
    assert (job.state, job.succeeded, job.failed) == ("partial", 1, 1)
    assert scalar(sessions, "SELECT error ->> 'code' FROM results WHERE state = 'failed'") == "source-missing"


def test_what_failed_of_an_ingestion_is_tried_again_alone(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, blobs: BlobStore
) -> None:
    there, away = keep(blobs, zip_of(tiny_pngs(1))), keep(blobs, zip_of({"late.png": tiny_png(9)}))
    path = sources._path(blobs, TENANT, away.id)
    hidden = path.rename(path.with_name("hidden"))
    with sessions.begin() as session:
        both = [NewSource("there", ARCHIVE, there), NewSource("away", ARCHIVE, away)]
        job_id = ingesting.submit_ingest(session, TENANT, set_id, both).id
    run_slice(analyst)
    hidden.rename(path)
    again = try_again(sessions, job_id)
    with sessions() as session, pytest.raises(NotEndedError):
        sealing.seal(session, TENANT, set_id)
    run_slice(analyst)
    assert result_of(sessions, again.id) == {"added": 1, "there": 0, "failed": 0, "skipped": 0, "first": 1}
    assert [item.custom_id for item in items_of(sessions, set_id)] == ["000000.png", "late.png"]
    assert_settled(sessions)


def test_of_an_ingestion_only_the_newest_try_goes_on(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    first = ingest(zip_of(tiny_pngs(3)))
    cancel_job(sessions, first)
    second = try_again(sessions, first).id
    cancel_job(sessions, second)
    third = try_again(sessions, second).id
    run_slice(analyst)
    for earlier in (first, second):
        for scope in RetryScope:
            with pytest.raises(AlreadyRetriedError):
                try_again(sessions, earlier, scope)
    run_slice(analyst)
    assert result_of(sessions, third) == {"added": 3, "there": 0, "failed": 0, "skipped": 0, "first": 0}
    assert [item.error for item in items_of(sessions, set_id)] == [None] * 3


def test_of_two_who_try_an_ingestion_again_at_once_one_does(sessions: Sessions, ingest: Ingest) -> None:
    job_id = ingest(zip_of(tiny_pngs(1)))
    cancel_job(sessions, job_id)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            store_again(session, find_again(session, job_id))
            other = in_thread(pool, sessions, lambda: try_again(sessions, job_id))
        with pytest.raises(AlreadyRetriedError):
            other.result()
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 2


def test_a_cancelled_ingestion_stops_at_its_next_step(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 1)
    job_id = ingest(zip_of(tiny_pngs(2_000)))

    def cancel_at_the_first(*_: object) -> bool:
        with sessions.begin() as session:
            cancel(session, TENANT, job_id)
        return False

    monkeypatch.setattr(Analyst, "is_to_pause", cancel_at_the_first)
    run_slice(analyst)
    job = read(sessions, job_id)
    assert (job.state, job.dropped) == ("cancelled", 1)
    assert 1 <= len(items_of(sessions, set_id)) < 2_000
    assert_settled(sessions)


def test_a_database_that_breaks_off_costs_nothing(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 10)
    job_id = ingest(tar_of(tiny_pngs(50)))
    broken = iter([True, True])

    def break_off(*_: object) -> bool:
        if next(broken, False):
            with sessions() as session:
                session.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
        return False

    monkeypatch.setattr(Analyst, "is_to_pause", break_off)
    run_slice(analyst)
    run_slice(analyst)
    assert result_of(sessions, job_id)["added"] == 50
    assert len(items_of(sessions, set_id)) == 50


def test_a_disk_that_is_full_is_waited_for(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ingest(zip_of(tiny_pngs(3)))
    analyst.settings.slice_seconds = 0

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert run_slice(analyst) is True
    assert scalar(sessions, "SELECT losses FROM work") == 0
    assert items_of(sessions, set_id) == []
    run_slice(analyst)
    assert result_of(sessions, job_id)["added"] == 3
    assert_settled(sessions)


def test_a_store_that_is_gone_ends_the_worker_and_not_the_work(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, blobs: BlobStore
) -> None:
    job_id = ingest(zip_of(tiny_pngs(3)))
    away = blobs.folder.rename(blobs.folder.with_name("away"))
    with pytest.raises(BlobStoreMissingError):
        run_slice(analyst)
    away.rename(blobs.folder)
    assert scalar(sessions, "SELECT losses FROM work") == 0
    run_slice(analyst)
    assert result_of(sessions, job_id)["added"] == 3


def test_a_fault_of_ours_is_tried_again(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ingest(zip_of(tiny_pngs(3)))

    def fail(*_: object) -> Progress:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("worker.ingest.add_chunk", fail)
        run_slice(analyst)
    assert scalar(sessions, "SELECT losses FROM work") == 1
    with sessions.begin() as session:
        session.execute(text("UPDATE work SET run_at = now()"))
    run_slice(analyst)
    assert result_of(sessions, job_id)["added"] == 3
