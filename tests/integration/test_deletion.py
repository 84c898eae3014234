"""Deleting a job: gone at once for whoever asks, its pictures free, and the rest by and by."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from jobs import retention
from jobs.blobs import BlobStore
from jobs.deletion import delete_job
from jobs.errors import NotEndedError
from jobs.keys import create_key
from tests.faults import change, do, do_all
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_retention import done, objects
from tests.ledger import TENANT, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
TABLES = ("results", "job_inputs", "job_events", "attempts")
LENS = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}


def submit(api: TestClient, **changes: Any) -> dict[str, Any]:
    body = {"type": "embedding", "input": {"texts": ["a ring"]}, "tags": {"set": "A"}} | changes
    job: dict[str, Any] = api.post("/v1/jobs", json=body).raise_for_status().json()
    return job


def end(sessions: Sessions) -> None:
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)


def rows(sessions: Sessions, job_id: uuid.UUID) -> dict[str, int]:
    return {
        table: scalar(sessions, f"SELECT count(*) FROM {table} WHERE job_id = :id", id=job_id)  # noqa: S608 - ours
        for table in TABLES
    }


def test_a_deleted_job_and_all_beneath_it_is_gone(api: TestClient, sessions: Sessions) -> None:
    job = submit(api)
    link = job["links"]["self"]
    assert_problem(api.delete(link), 409, "not-ended")
    end(sessions)
    for _ in range(2):
        answer = api.delete(link)
        assert (answer.status_code, answer.content) == (204, b"")
    for beneath in ("", "/results", "/items/0", "/items/0/scores"):
        assert_problem(api.get(link + beneath), 410, "job-deleted")
    assert_problem(api.get(link, headers={"Prefer": "wait=20"}), 410, "job-deleted")
    assert_problem(api.post(job["links"]["cancel"]), 410, "job-deleted")
    assert api.get("/v1/jobs").json()["items"] == []
    assert api.get("/v1/jobs", params={"tag": "set:A"}).json()["items"] == []
    left = "options = '{}' AND tags = '{}' AND provenance IS NULL AND error IS NULL"
    assert scalar(sessions, f"SELECT {left} FROM jobs")  # noqa: S608 - ours


def test_nobody_deletes_what_is_not_theirs(api: TestClient, sessions: Sessions) -> None:
    job = submit(api)
    end(sessions)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    theirs = {"Authorization": f"Bearer {foreign}"}
    assert_problem(api.delete(job["links"]["self"], headers=theirs), 404, "not-found")
    assert_problem(api.delete("/v1/jobs/job_" + "0" * 32), 404, "not-found")
    assert api.get(job["links"]["self"]).json()["state"] == "succeeded"
    assert api.delete(job["links"]["self"]).status_code == 204
    assert_problem(api.get(job["links"]["self"], headers=theirs), 404, "not-found")


def test_the_pictures_of_a_deleted_job_are_free_at_once(
    api: TestClient, sessions: Sessions, picture: bytes
) -> None:
    image = "/v1/images/" + api.post("/v1/images", files={"images": picture}).json()["items"][0]["id"]
    job = submit(api, **LENS, input={"images": [{"image_id": image.rpartition("/")[2]}]})
    api.post(job["links"]["cancel"])
    assert_problem(api.delete(image), 409, "image-in-use")
    api.delete(job["links"]["self"])
    assert api.delete(image).status_code == 204


def test_a_submit_sent_again_does_not_bring_a_deleted_job_back(api: TestClient, sessions: Sessions) -> None:
    once = {"Idempotency-Key": "order 1"}
    body = {"type": "embedding", "input": {"texts": ["a ring"]}}
    job = api.post("/v1/jobs", json=body, headers=once).json()
    api.post(job["links"]["cancel"])
    api.delete(job["links"]["self"])
    assert_problem(api.post("/v1/jobs", json=body, headers=once), 410, "job-deleted")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_what_a_deleted_job_leaves_goes_in_slices_and_its_row_after_a_month(
    sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    kept, job_id = done(sessions, blobs), done(sessions, blobs)
    with sessions.begin() as session:
        delete_job(session, TENANT, job_id)
    assert rows(sessions, job_id) == {"results": 3, "job_inputs": 0, "job_events": 1, "attempts": 1}
    # before anything is left over of it, its row stays: by it the rest is found
    assert do(sessions, lambda session: retention.forget_deleted(session, timedelta(0))) == 0
    assert do_all(sessions, lambda session: retention.expire_results(session, blobs)) == 5
    assert rows(sessions, job_id) == dict.fromkeys(TABLES, 0)
    assert objects(blobs, job_id) == []

    def forget() -> int:
        return do(sessions, lambda session: retention.forget_deleted(session, retention.DELETED_JOBS_KEPT))

    change(sessions, "UPDATE jobs SET deleted_at = deleted_at - interval '29 days'")
    assert forget() == 0
    change(sessions, "UPDATE jobs SET deleted_at = deleted_at - interval '2 days'")
    assert forget() == 1
    assert scalar(sessions, "SELECT id FROM jobs") == kept
    assert rows(sessions, kept) == {"results": 3, "job_inputs": 1, "job_events": 1, "attempts": 1}
    assert len(objects(blobs, kept)) == 1


def test_a_job_whose_results_had_expired_is_emptied_all_the_same(
    sessions: Sessions, blobs: BlobStore
) -> None:
    job_id = done(sessions, blobs)
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 hour'")
    assert do_all(sessions, lambda session: retention.expire_results(session, blobs)) == 3
    with sessions.begin() as session:
        delete_job(session, TENANT, job_id)
    assert do_all(sessions, lambda session: retention.expire_results(session, blobs)) == 2
    assert rows(sessions, job_id) == dict.fromkeys(TABLES, 0)


def test_a_job_that_waits_runs_or_is_being_cancelled_cannot_be_deleted(sessions: Sessions) -> None:
    waiting, running, cancelling = (submit_texts(sessions, 2) for _ in range(3))
    change(sessions, "UPDATE jobs SET state = 'running' WHERE id = :id", id=running)
    change(sessions, "UPDATE jobs SET state = 'cancelling' WHERE id = :id", id=cancelling)
    for job_id in (waiting, running, cancelling):
        with pytest.raises(NotEndedError), sessions.begin() as session:
            delete_job(session, TENANT, job_id)
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE deleted_at IS NULL") == 3
