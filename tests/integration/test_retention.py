"""What goes when its time is over, and what stays."""

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs import idempotency, retention
from jobs.blobs import DRAFTS, SENTINEL, BlobStore
from jobs.errors import BlobStoreMissingError
from jobs.keys import create_key
from jobs.leases import Appetite
from jobs.objects import ObjectName, put_object
from jobs.submission import Terms
from models.types import JobState, Priority
from tests.faults import cancel_job, change, do
from tests.ledger import TENANT, claim, complete, read, scalar, submit_texts

Sessions = sessionmaker[Session]
KEPT_AN_HOUR = Terms(result_ttl=timedelta(hours=1))


def done(
    sessions: Sessions, blobs: BlobStore, *, tenant: str = TENANT, terms: Terms | None = None
) -> uuid.UUID:
    """A job of three items that succeeded, with an object of its own."""
    job_id = submit_texts(sessions, 3, tenant=tenant, terms=terms, priority=Priority.BULK)
    held = claim(sessions, appetite=Appetite(items=3))
    assert held is not None
    put_object(blobs, ObjectName(tenant, job_id, held.token), [b"maps"])
    assert complete(sessions, held)
    return job_id


def let_hours_pass(sessions: Sessions) -> None:
    change(sessions, "UPDATE jobs SET expires_at = expires_at - interval '2 hours'")


def expire(sessions: Sessions, blobs: BlobStore) -> list[int]:
    """Do the duty until it finds nothing: how much it did, each time."""
    slices = []
    while removed := do(sessions, lambda session: retention.expire_results(session, blobs)):
        slices.append(removed)
    return slices


def results(sessions: Sessions, job_id: uuid.UUID) -> int:
    return int(scalar(sessions, "SELECT count(*) FROM results WHERE job_id = :job_id", job_id=job_id))


def objects(blobs: BlobStore, job_id: uuid.UUID) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file() and job_id.hex in path.parts]


def test_results_go_when_their_time_is_over_and_the_job_stays(sessions: Sessions, blobs: BlobStore) -> None:
    job_id = done(sessions, blobs, terms=KEPT_AN_HOUR)
    assert expire(sessions, blobs) == []
    assert (results(sessions, job_id), len(objects(blobs, job_id))) == (3, 1)
    let_hours_pass(sessions)
    assert expire(sessions, blobs) == [3, 1, 1]
    assert (results(sessions, job_id), objects(blobs, job_id)) == (0, [])
    job = read(sessions, job_id)
    assert (job.state, job.succeeded) == (JobState.SUCCEEDED, 3)
    assert job.results_removed_at is not None


def test_nothing_of_another_job_or_tenant_is_touched(sessions: Sessions, blobs: BlobStore) -> None:
    kept = [done(sessions, blobs), done(sessions, blobs, tenant="another")]
    later = done(sessions, blobs, terms=Terms(result_ttl=timedelta(days=9)))
    over = done(sessions, blobs, terms=KEPT_AN_HOUR)
    let_hours_pass(sessions)
    expire(sessions, blobs)
    assert results(sessions, over) == 0
    for job_id in (*kept, later):
        assert (results(sessions, job_id), len(objects(blobs, job_id))) == (3, 1)
        assert read(sessions, job_id).results_removed_at is None


def test_results_go_in_slices(sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    job_id = done(sessions, blobs, terms=KEPT_AN_HOUR)
    let_hours_pass(sessions)
    assert do(sessions, lambda session: retention.expire_results(session, blobs)) == 2
    # a slice is gone, its objects are not: rows that are left still name them
    assert (results(sessions, job_id), len(objects(blobs, job_id))) == (1, 1)
    assert expire(sessions, blobs) == [1, 1, 1]


def test_the_time_of_results_begins_when_the_job_ends_in_whatever_way(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, terms=KEPT_AN_HOUR)
    assert read(sessions, job_id).expires_at is None
    cancel_job(sessions, job_id)
    job = read(sessions, job_id)
    assert job.ended_at is not None
    assert job.expires_at == job.ended_at + timedelta(hours=1)


def test_nothing_counts_as_removed_while_the_blob_store_is_not_mounted(
    sessions: Sessions, blobs: BlobStore
) -> None:
    job_id = done(sessions, blobs, terms=KEPT_AN_HOUR)
    let_hours_pass(sessions)
    (blobs.folder / SENTINEL).unlink()
    with pytest.raises(BlobStoreMissingError):
        expire(sessions, blobs)
    assert read(sessions, job_id).results_removed_at is None
    blobs.create()
    assert expire(sessions, blobs) == [1]
    assert objects(blobs, job_id) == []


def test_objects_that_cannot_be_removed_do_not_hold_up_those_of_other_jobs(
    sessions: Sessions, blobs: BlobStore
) -> None:
    stuck, other = (done(sessions, blobs, terms=KEPT_AN_HOUR) for _ in range(2))
    let_hours_pass(sessions)
    (held,) = objects(blobs, stuck)
    folder = next(parent for parent in held.parents if parent.name == stuck.hex)
    aside = folder.rename(folder.with_name("aside"))
    # a folder that is a file cannot be removed as a folder, not even by root
    folder.write_bytes(b"")
    assert expire(sessions, blobs) == [3, 1, 3, 1, 1]
    assert read(sessions, other).results_removed_at is not None
    assert read(sessions, stuck).results_removed_at is None
    folder.unlink()
    aside.rename(folder)
    assert expire(sessions, blobs) == [1]
    assert objects(blobs, stuck) == []


def test_a_job_without_objects_is_no_fault(sessions: Sessions, blobs: BlobStore) -> None:
    job_id = submit_texts(sessions, terms=KEPT_AN_HOUR)
    cancel_job(sessions, job_id)
    let_hours_pass(sessions)
    assert expire(sessions, blobs) == [1]
    assert read(sessions, job_id).results_removed_at is not None


def test_workers_are_forgotten_after_a_week(sessions: Sessions) -> None:
    for age in (6, 8):
        change(
            sessions,
            """INSERT INTO workers (id, hostname, model, state, seen_at)
               VALUES (gen_random_uuid(), :name, 'model', 'offline', now() - make_interval(days => :age))""",
            name=f"{age} days",
            age=age,
        )
    assert do(sessions, retention.forget_workers) == 1
    assert scalar(sessions, "SELECT hostname FROM workers") == "6 days"


def test_keys_are_forgotten_after_a_day_and_their_jobs_stay(sessions: Sessions) -> None:
    job_id = submit_texts(sessions)
    for hours in (23, 25):
        change(
            sessions,
            """INSERT INTO idempotency_keys (tenant, key, fingerprint, made_id, created_at)
               VALUES (:tenant, :key, '', :job_id, now() - make_interval(hours => :hours))""",
            tenant=TENANT,
            key=f"{hours} hours",
            job_id=job_id,
            hours=hours,
        )
    assert do(sessions, idempotency.forget_keys) == 1
    assert scalar(sessions, "SELECT key FROM idempotency_keys") == "23 hours"
    assert read(sessions, job_id).state == JobState.QUEUED


def test_files_that_a_killed_process_left_half_written_go_after_a_day(
    sessions: Sessions, blobs: BlobStore
) -> None:
    blobs.put(TENANT, b"whole")
    drafts = blobs.folder / DRAFTS
    assert list(drafts.iterdir()) == []
    for name, hours in (("old", 25), ("new", 1)):
        (drafts / name).write_bytes(b"hal")
        then = time.time() - hours * 3600
        os.utime(drafts / name, (then, then))
    with sessions.begin() as session:
        assert retention.remove_drafts(session, blobs) == 1
    assert [left.name for left in drafts.iterdir()] == ["new"]


def test_what_keys_did_is_forgotten_after_two_years(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    with sessions.begin() as session:
        keys = [create_key(session, name="tests", tenant=TENANT).row.id for _ in range(2)]
    added = "INSERT INTO key_usage (key_id, day, requests) VALUES (:key, current_date - :days, :days)"
    for key in keys:
        for days in (0, 798, 803, 804):
            change(sessions, added, key=key, days=days)
    assert [do(sessions, retention.forget_usage) for _ in range(3)] == [2, 2, 0]
    assert scalar(sessions, "SELECT array_agg(requests ORDER BY requests) FROM key_usage") == [0, 0, 798, 798]
