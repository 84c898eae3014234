"""Files that are sent to be added to a set: the job that adds them, and what is refused before that."""

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from tests.integration.test_bad_requests import assert_problem
from tests.ledger import assert_settled, scalar
from tests.packed import zip_of
from tests.scenes import tiny_png
from tests.sets import HERE, NOBODYS_SET, items_of, make, seal
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst

Sessions = sessionmaker[Session]


def ingest(api: TestClient, set_id: str, headers: dict[str, str] | None = None, **files: Any) -> Any:
    return api.post(f"{HERE}/{set_id}/ingestions", files=files, headers=headers)


def archive() -> bytes:
    first, second = tiny_png(1), tiny_png(2)
    return zip_of({"ring/a.png": first, "square/b.png": second, "square/torn.png": b"no picture"})


def test_an_archive_becomes_items_with_the_labels_of_its_folders(
    api: TestClient, analyst: Analyst, sessions: Sessions
) -> None:
    set_id = make(api)
    options = (None, b'{"folder_labels": true, "tags": {"of": "shapes"}}', "application/json")
    answer = ingest(api, set_id, archive=("shapes.zip", archive()), options=options)
    assert answer.status_code == 202, answer.text
    assert_problem(api.post(f"{HERE}/{set_id}/seal"), 409, "not-ended")
    assert not run_slice(analyst)
    job = api.get(answer.json()["links"]["self"]).json()
    assert (job["type"], job["state"], job["tags"]) == ("ingest", "succeeded", {"of": "shapes"})
    assert_problem(api.get(job["links"]["request"]), 404, "no-request")
    (told,) = api.get(job["links"]["results"]).json()["items"]
    assert (told["added"], told["failed"], told["custom_id"]) == (2, 1, "shapes.zip")
    items = items_of(api, seal(api, set_id)["id"])
    assert [(item["custom_id"], item["true_label"], item["state"]) for item in items] == [
        ("ring/a.png", "ring", "succeeded"),
        ("square/b.png", "square", "succeeded"),
        ("square/torn.png", "square", "failed"),
    ]
    assert_settled(sessions)


def test_a_manifest_names_the_files_of_the_archive_beside_it(api: TestClient, analyst: Analyst) -> None:
    set_id = make(api)
    lines = b'file,custom_id,true_label\nring/a.png,first,"a ring"\nnowhere.png,second,a ring\n'
    answer = ingest(api, set_id, archive=("a.zip", archive()), manifest=("a.csv", lines))
    assert answer.status_code == 202, answer.text
    run_slice(analyst)
    items = {item["custom_id"]: item for item in items_of(api, seal(api, set_id)["id"])}
    assert sorted(items) == ["first", "second"]
    assert items["first"]["true_label"] == "a ring"
    assert items["second"]["error"]["code"] == "file-missing"


def test_sent_again_with_its_key_it_is_one_job(api: TestClient, sessions: Sessions) -> None:
    set_id, key = make(api), {"Idempotency-Key": "once"}
    first, second = (ingest(api, set_id, key, archive=("a.zip", archive())) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert_problem(ingest(api, set_id, key, archive=("a.zip", b"other")), 422, "idempotency-key-reused")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_what_is_no_ingestion_is_refused(api: TestClient, sessions: Sessions) -> None:
    set_id = make(api)
    assert_problem(ingest(api, NOBODYS_SET, archive=("a.zip", archive())), 404, "not-found")
    assert_problem(ingest(api, set_id, pictures=("a.zip", b"")), 422, "invalid-request")
    options = (None, b'{"folders": true}', "application/json")
    refused = ingest(api, set_id, archive=("a.zip", archive()), options=options)
    assert_problem(refused, 422, "invalid-request")
    path = f"{HERE}/{set_id}/ingestions"
    assert_problem(api.post(path, json={"prefix": "s3://secret/"}), 422, "s3-not-allowed")
    assert_problem(api.post(path, json={"prefix": "file:///etc"}), 422, "s3-not-allowed")
    assert_problem(
        api.post(path, content=b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported-media-type"
    )
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
