"""Prefixes of S3 as sources, against a server that speaks as it does."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobs import image_sets, ingesting, unpacking
from jobs.blobs import BlobStore
from jobs.errors import S3NotAllowedError
from jobs.ingesting import NewSource, SourceForm
from jobs.members import ArchiveLimits
from jobs.s3 import S3Prefix, connect, parse_prefix, read_prefix
from models.image_set import ImageSetItem
from models.job import Result
from models.queue import ANALYSIS
from tests.ledger import TENANT, assert_settled
from tests.scenes import tiny_png
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat
from worker.running import RunningMark
from worker.settings import WorkerSettings

Sessions = sessionmaker[Session]
ALLOWED = ["s3://pictures/open/"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client, with an empty bucket `pictures`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = connect(server)
    client.create_bucket(Bucket="pictures")
    for found in client.list_objects_v2(Bucket="pictures").get("Contents", ()):
        client.delete_object(Bucket="pictures", Key=found["Key"])
    return client


@pytest.fixture
def analyst(sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat, server: str) -> Analyst:
    settings = WorkerSettings(model=ANALYSIS, blobs=blobs.folder, s3_allowed=ALLOWED, s3_endpoint_url=server)
    return Analyst(settings, sessions, blobs, heartbeat, RunningMark(settings.worker_id))


def put(bucket: Any, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        bucket.put_object(Bucket="pictures", Key=key, Body=data)


def ingest(sessions: Sessions, url: str, *, folder_labels: bool = False) -> uuid.UUID:
    with sessions.begin() as session:
        made = image_sets.create_set(session, TENANT, "far")
        source = NewSource(url, SourceForm.S3, folder_labels=folder_labels)
        return ingesting.submit_ingest(session, TENANT, made.id, [source]).id


def ended(sessions: Sessions, job_id: uuid.UUID) -> dict[str, Any]:
    with sessions() as session:
        result = session.scalars(select(Result).where(Result.job_id == job_id)).one()
        found: dict[str, Any] = result.payload or result.error or {}
        return found


def items_of(sessions: Sessions) -> list[ImageSetItem]:
    with sessions() as session:
        return list(session.scalars(select(ImageSetItem).order_by(ImageSetItem.index)))


def test_objects_under_a_prefix_become_items(bucket: Any, analyst: Analyst, sessions: Sessions) -> None:
    shown = {f"open/set/ring/{number}.png": tiny_png(number) for number in range(3)}
    labelled = {"open/set/star/a.png": tiny_png(7), "open/set/star/a.txt": b"comet"}
    odd = {"open/set/": b"", "open/set/notes.md": b"#", "open/set/../up.png": tiny_png(1)}
    put(bucket, shown | labelled | odd | {"open/other.png": tiny_png(8), "secret/a.png": tiny_png(9)})
    job_id = ingest(sessions, "s3://pictures/open/set/", folder_labels=True)
    run_slice(analyst)
    assert ended(sessions, job_id) == {"added": 4, "there": 0, "failed": 2, "skipped": 0, "first": 0}
    found = [
        (item.custom_id, item.true_label, item.error and item.error["code"]) for item in items_of(sessions)
    ]
    assert found == [
        (None, None, "member-unsafe-name"),
        ("notes.md", None, "not-an-image"),
        *((f"ring/{number}.png", "ring", None) for number in range(3)),
        ("star/a.png", "comet", None),
    ]
    assert_settled(sessions)


def test_an_ingestion_goes_on_behind_the_last_key(
    bucket: Any, analyst: Analyst, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, {f"open/set/{number:02}.png": tiny_png(number) for number in range(10, 20)})
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 3)
    keys: list[str] = []

    def change_and_pause(*_: object) -> bool:
        # what was read goes, and something comes that lies before it: neither moves the place
        with sessions() as session:
            told = text("SELECT items -> 0 -> 'progress' ->> 'key' FROM job_inputs")
            keys.append(session.scalars(told).one())
        bucket.delete_object(Bucket="pictures", Key=keys[-1])
        put(bucket, {f"open/set/0{len(keys)}.png": tiny_png(50)})
        return True

    monkeypatch.setattr(Analyst, "is_to_pause", change_and_pause)
    job_id = ingest(sessions, "s3://pictures/open/set/")
    run_slice(analyst)
    assert ended(sessions, job_id) == {"added": 10, "there": 0, "failed": 0, "skipped": 0, "first": 0}
    assert [item.custom_id for item in items_of(sessions)] == [f"{number}.png" for number in range(10, 20)]
    assert keys == [f"open/set/{number}.png" for number in (12, 15, 18)]


def test_an_object_that_goes_meanwhile_is_told_of_alone(bucket: Any) -> None:
    put(bucket, {"open/a.png": b"one", "open/b.png": b"two"})
    codes: list[str | bytes] = []
    for listed in read_prefix(bucket, S3Prefix("pictures", "open/"), ArchiveLimits(member_bytes=3)):
        if listed.key == "open/a.png":
            bucket.delete_object(Bucket="pictures", Key=listed.key)
        codes += [getattr(found, "code", found) for found in [_read_or_error(listed.member.read)]]
    assert codes == ["member-missing", b"two"]


def _read_or_error(read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - the test says which
        return error


def test_what_the_operator_does_not_allow_is_not_read(
    bucket: Any, analyst: Analyst, sessions: Sessions
) -> None:
    assert parse_prefix("s3://pictures/open/set", ALLOWED) == S3Prefix("pictures", "open/set")
    for url in ("s3://pictures/opened/", "s3://pictures/", "s3://other/open/", "https://pictures/open/", "x"):
        with pytest.raises(S3NotAllowedError):
            parse_prefix(url, ALLOWED)
        job_id = ingest(sessions, url)
        run_slice(analyst)
        assert ended(sessions, job_id)["code"] == "s3-not-allowed"
    with pytest.raises(S3NotAllowedError):
        parse_prefix("s3://pictures/open/", [])


def test_a_bucket_that_is_not_there_fails_its_source(
    bucket: Any, analyst: Analyst, sessions: Sessions
) -> None:
    analyst.settings.s3_allowed.append("s3://nowhere/")
    job_id = ingest(sessions, "s3://nowhere/set/")
    run_slice(analyst)
    assert ended(sessions, job_id)["code"] == "s3-refused"
    empty = ingest(sessions, "s3://pictures/open/nothing/")
    run_slice(analyst)
    assert ended(sessions, empty)["code"] == "empty-source"
