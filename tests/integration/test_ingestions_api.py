"""Files that are sent to be added to a set: the job that adds them, and what is refused before that."""

import errno
import os
import shutil
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.arrivals import PIECE_BYTES
from api.settings import ApiSettings
from jobs.blobs import BlobStore
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import assert_settled, scalar
from tests.packed import tar_gz_of, zip_of
from tests.scenes import tiny_png
from tests.sets import HERE, NOBODYS_SET, files_of, items_of, make, seal, small
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


def test_an_archive_may_be_the_body_itself(api: TestClient, analyst: Analyst) -> None:
    set_id = make(api)
    body, headers = tar_gz_of({"ring/a.png": tiny_png(1)}), {"Content-Type": "application/gzip"}
    query = {"folder_labels": "true", "name": "a.tar.gz"}
    answer = api.post(f"{HERE}/{set_id}/ingestions", content=body, headers=headers, params=query)
    assert answer.status_code == 202, answer.text
    run_slice(analyst)
    (told,) = api.get(answer.json()["links"]["results"]).json()["items"]
    assert (told["added"], told["custom_id"]) == (1, "a.tar.gz")
    (item,) = items_of(api, seal(api, set_id)["id"])
    assert item["true_label"] == "ring"
    # where there are options, they say it
    refused = api.post(f"{HERE}/{set_id}/ingestions", files={"archive": ("a.zip", body)}, params=query)
    assert_problem(refused, 422, "invalid-request")


def test_sent_again_with_its_key_it_is_one_job_and_one_file(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    set_id, key = make(api), {"Idempotency-Key": "once"}
    first, second = (ingest(api, set_id, key, archive=("a.zip", archive())) for _ in range(2))
    # the same whichever way it comes
    as_it_is = {"Content-Type": "application/zip", **key}
    third = api.post(f"{HERE}/{set_id}/ingestions", content=archive(), headers=as_it_is)
    assert first.json()["id"] == second.json()["id"] == third.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert_problem(ingest(api, set_id, key, archive=("a.zip", b"other")), 422, "idempotency-key-reused")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
    assert len(files_of(blobs.folder)) == 1


def test_what_is_refused_leaves_nothing(
    settings: ApiSettings, api: TestClient, key: str, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_id, large = make(api), {"archive": ("a.zip", bytes(3 * PIECE_BYTES))}
    path = f"{HERE}/{set_id}/ingestions"
    assert_problem(api.post(path, files={**large, "pictures": ("b.zip", b"")}), 422, "invalid-request")
    twice = [("archive", ("a.zip", b"1")), ("archive", ("b.zip", b"2"))]
    assert_problem(api.post(path, files=twice), 422, "invalid-request")
    torn = b'--b\r\nContent-Disposition: form-data; name="archive"; filename="a"\r\n\r\n' + bytes(2**21)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert_problem(api.post(path, content=torn, headers=headers), 400, "malformed-body")
    with small(settings, key, max_archive_bytes=2 * PIECE_BYTES, max_body_bytes=10) as limited:
        assert_problem(limited.post(path, files=large), 413, "body-too-large")
        # of JSON, no more may come than of any
        assert_problem(limited.post(path, json={"prefix": "s3://b/"}), 413, "body-too-large")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        assert_problem(api.post(path, files=large), 503, "blob-store-full")
    assert files_of(blobs.folder) == []


def test_of_an_archive_and_a_manifest_both_are_kept_or_none(
    api: TestClient, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_id, sync = make(api), os.fsync
    both: dict[str, Any] = {"archive": ("a.zip", archive()), "manifest": ("a.csv", b"file\na.png\n")}
    # the first file, its folder, the second file, its folder
    for failing in range(1, 5):
        synced: list[int] = []

        def full(descriptor: int, synced: list[int] = synced, failing: int = failing) -> None:
            synced.append(descriptor)
            if len(synced) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            assert_problem(ingest(api, set_id, **both), 503, "blob-store-full")
        assert (len(synced), files_of(blobs.folder)) == (failing, [])


def test_what_the_disk_has_no_room_for_is_refused_before_it_comes(
    api: TestClient, settings: ApiSettings, key: str
) -> None:
    disk = shutil.disk_usage(settings.blobs).free
    with small(settings, key, max_archive_bytes=4 * disk, max_arriving_bytes=4 * disk) as client:
        headers = {"Content-Type": "application/zip", "Content-Length": str(2 * disk)}
        answer = client.post(f"{HERE}/{make(api)}/ingestions", content=b"PK", headers=headers)
        assert_problem(answer, 503, "blob-store-full")


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
