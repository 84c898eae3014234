"""Deleting pictures while others name them: nothing that a job needs is ever removed."""

import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import images, maintenance, submit
from jobs.blobs import SENTINEL, BlobStore
from jobs.errors import (
    BlobMissingError,
    BlobStoreMissingError,
    ImageInUseError,
    NotFoundError,
    UnknownImageError,
)
from jobs.images import Content
from jobs.submission import ImageItem, Submission
from models.types import JobType
from tests.ledger import MODEL, TENANT, admit_alone, admit_and_submit, scalar

Sessions = sessionmaker[Session]
DATA = b"the bytes of a picture"


@pytest.fixture
def content(blobs: BlobStore) -> Content:
    return Content(blobs.put(TENANT, DATA), len(DATA), "image/jpeg")


@pytest.fixture
def image_id(sessions: Sessions, content: Content) -> uuid.UUID:
    return keep(sessions, content)


def keep(sessions: Sessions, content: Content) -> uuid.UUID:
    with sessions.begin() as session:
        return images.keep(session, TENANT, [content])[content.sha256].image.id


def job_over(source: Content | uuid.UUID) -> Submission:
    return Submission(JobType.EMBEDDING, MODEL, [ImageItem(source)], {"normalize": True})


def delete(sessions: Sessions, image_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        images.delete_image(session, TENANT, image_id)


def remove(sessions: Sessions, blobs: BlobStore) -> int:
    with sessions.begin() as session:
        return images.remove_dying(session, blobs)


def age(sessions: Sessions, blobs: BlobStore, content: Content) -> None:
    """Let an hour pass for what is dying, and for its file."""
    with sessions.begin() as session:
        session.execute(text("UPDATE images SET dying_at = dying_at - interval '61 minutes'"))
    old = time.time() - 61 * 60
    os.utime(blobs._path(TENANT, content.sha256), (old, old))


def is_there(blobs: BlobStore, content: Content) -> bool:
    try:
        return blobs.get(TENANT, content.sha256) == DATA
    except BlobMissingError:
        return False


def in_thread(pool: ThreadPoolExecutor, call: Callable[[], object], sessions: Sessions) -> Future[object]:
    """Start a call and wait until it waits for a lock."""
    started = pool.submit(call)
    for _ in range(100):
        if scalar(sessions, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return started
        time.sleep(0.05)
    raise AssertionError(f"it never waited: {started}")


@pytest.mark.parametrize("by_id", [True, False])
def test_a_delete_waits_for_a_submit_that_names_the_image(
    sessions: Sessions, content: Content, image_id: uuid.UUID, by_id: bool
) -> None:
    wanted = job_over(image_id if by_id else content)
    admission = admit_alone(sessions, wanted)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as submitting:
            submit.submit(submitting, TENANT, wanted, admission)
            deleting = in_thread(pool, lambda: delete(sessions, image_id), sessions)
        with pytest.raises(ImageInUseError):
            deleting.result()
    assert scalar(sessions, "SELECT dying_at FROM images") is None


def test_a_submit_by_id_waits_for_a_delete_and_then_knows_no_such_image(
    sessions: Sessions, image_id: uuid.UUID
) -> None:
    def submit_it() -> None:
        admit_and_submit(sessions, job_over(image_id))

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as deleting:
            images.delete_image(deleting, TENANT, image_id)
            submitting = in_thread(pool, submit_it, sessions)
        with pytest.raises(UnknownImageError):
            submitting.result()
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_an_inline_submit_waits_for_a_delete_and_revives_the_image(
    sessions: Sessions, content: Content, image_id: uuid.UUID
) -> None:
    def submit_it() -> None:
        admit_and_submit(sessions, job_over(content))

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as deleting:
            images.delete_image(deleting, TENANT, image_id)
            submitting = in_thread(pool, submit_it, sessions)
        submitting.result()
    assert scalar(sessions, "SELECT dying_at FROM images") is None
    with pytest.raises(ImageInUseError):
        delete(sessions, image_id)


def test_a_submit_that_finds_its_image_being_removed_makes_a_new_one(
    sessions: Sessions, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as removing:
            removing.execute(text("SELECT 1 FROM images FOR UPDATE"))
            keeping = in_thread(pool, lambda: keep(sessions, content), sessions)
            removing.execute(text("DELETE FROM images"))
        assert keeping.result() != image_id
    assert scalar(sessions, "SELECT dying_at FROM images") is None


def test_many_submits_and_deletes_at_once_lose_nothing(
    sessions: Sessions, content: Content, blobs: BlobStore, image_id: uuid.UUID
) -> None:
    def submit_it(_: int) -> None:
        admit_and_submit(sessions, job_over(content))

    def delete_it(_: int) -> bool:
        try:
            delete(sessions, image_id)
        except (ImageInUseError, NotFoundError):
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        deletes = pool.map(delete_it, range(30))
        list(pool.map(submit_it, range(10)))
        list(deletes)
    assert scalar(sessions, "SELECT count(*) FROM images WHERE dying_at IS NULL") == 1
    age(sessions, blobs, content)
    remove(sessions, blobs)
    assert is_there(blobs, content)


def test_a_deleted_image_is_removed_after_an_hour_and_not_before(
    sessions: Sessions, blobs: BlobStore, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    assert remove(sessions, blobs) == 0
    assert is_there(blobs, content)
    age(sessions, blobs, content)
    with sessions.begin() as session:
        assert maintenance.run_alone(session, 3, lambda held: images.remove_dying(held, blobs)) == 1
    assert not is_there(blobs, content)
    assert scalar(sessions, "SELECT count(*) FROM images") == 0


def test_a_file_that_cannot_be_removed_does_not_hold_up_the_others(
    sessions: Sessions, blobs: BlobStore, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    age(sessions, blobs, content)
    path = blobs._path(TENANT, content.sha256)
    path.unlink()
    path.mkdir()
    old = time.time() - 61 * 60
    os.utime(path, (old, old))
    assert remove(sessions, blobs) == 0
    assert scalar(sessions, "SELECT count(*) FROM images WHERE dying_at > now() - interval '1 minute'") == 1


def test_a_file_that_is_being_sent_again_is_spared_and_the_others_are_not_held_up(
    sessions: Sessions, blobs: BlobStore, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    age(sessions, blobs, content)
    blobs.put(TENANT, DATA)
    assert remove(sessions, blobs) == 0
    assert is_there(blobs, content)
    assert scalar(sessions, "SELECT count(*) FROM images WHERE dying_at > now() - interval '1 minute'") == 1
    assert keep(sessions, content) == image_id
    assert scalar(sessions, "SELECT dying_at FROM images") is None


def test_a_file_that_went_before_its_row_is_no_fault(
    sessions: Sessions, blobs: BlobStore, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    age(sessions, blobs, content)
    blobs._path(TENANT, content.sha256).unlink()
    assert remove(sessions, blobs) == 1
    assert not blobs.remove(TENANT, blobs.put(TENANT, DATA), untouched=images.GRACE)


def test_nothing_is_removed_while_the_blob_store_is_not_mounted(
    sessions: Sessions, blobs: BlobStore, content: Content, image_id: uuid.UUID
) -> None:
    delete(sessions, image_id)
    age(sessions, blobs, content)
    (blobs.folder / SENTINEL).unlink()
    with pytest.raises(BlobStoreMissingError):
        remove(sessions, blobs)
    blobs.create()
    assert remove(sessions, blobs) == 1


def test_looking_for_jobs_that_name_an_image_uses_the_index(
    sessions: Sessions, content: Content, image_id: uuid.UUID
) -> None:
    job_id = admit_and_submit(sessions, job_over(content))
    with sessions.begin() as session:
        session.execute(
            text("""
                INSERT INTO job_inputs (job_id, unit, items, image_ids)
                SELECT :job_id, unit, jsonb_build_array(repeat('an item ', 120)), ARRAY[uuidv7(), uuidv7()]
                FROM generate_series(1, 10000) AS unit
            """),
            {"job_id": job_id},
        )
    for analysed in (False, True):
        with sessions.begin() as session:
            if analysed:
                session.execute(text("ANALYZE job_inputs"))
            lines = session.scalars(text(f"EXPLAIN {images.IN_USE.text}"), {"image_id": image_id}).all()
        assert "ix_job_inputs_image_ids" in "\n".join(lines), lines
