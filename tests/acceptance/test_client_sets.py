"""Image sets by both clients: filled by hand and from folders, sealed, read, and sure of lost answers."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from lensqueue_client import (
    Client,
    ConflictError,
    FolderAdded,
    InvalidRequestError,
    Job,
    NewItem,
    NotFoundError,
    Picture,
)
from tests.acceptance.clients import PATHS, QUICK, Faulty
from tests.acceptance.conftest import RunningService
from tests.packed import tar_of, zip_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures in folders, of which one is torn, and files that are no pictures by their names."""
    root = tmp_path / "shapes"
    first, second, third = (path.read_bytes() for path in PATHS)
    files = {
        "ring/a.jpg": first,
        "ring/b.JPG": second,
        "star/a.jpg": first,
        "star/torn.jpg": second[: len(second) // 2],
        "top.jpg": third,
        "labels.csv": b"a,b\n",
        ".hidden/c.jpg": first,
        "ring/.DS_Store": b"\x00",
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_a_set_is_made_changed_listed_and_deleted(client: Client) -> None:
    made = client.create_set("shapes", source="drawn", licence="CC0-1.0", idempotency_key=None)
    assert (made.name, made.source, made.notes, made.last_version.items) == ("shapes", "drawn", "", 0)
    assert made.versions == (made.last_version,)
    assert not made.last_version.is_sealed
    changed = client.change_set(made, notes="by hand")
    assert (changed.name, changed.notes) == ("shapes", "by hand")
    assert client.image_set(made.id) == changed
    newest = next(iter(client.image_sets(page_size=1)))
    assert (newest.id, newest.versions, newest.last_version) == (made.id, None, made.last_version)
    client.delete_set(made)
    with pytest.raises(NotFoundError):
        client.image_set(made)


def test_a_set_is_made_once_by_its_key(client: Client) -> None:
    key = f"set-{type(client).__name__}"
    first, second = (client.create_set("shapes", idempotency_key=key) for _ in range(2))
    assert first.id == second.id


def test_pictures_are_added_by_id_and_as_files_in_their_order(client: Client, tmp_path: Path) -> None:
    made = client.create_set("shapes")
    (image_id,) = client.upload(PATHS[0])
    items: list[NewItem | Picture] = [
        NewItem(image_id, "first", true_label="ring", split="test"),
        PATHS[1],
        ("third", PATHS[1].read_bytes()),
        NewItem(b"no picture", "fourth", true_labels=["ring", "star"]),
        image_id,
    ]
    added = client.add_items(made, items)
    assert added is not None
    assert (added.first, added.items, added.failed) == (0, 5, 1)
    assert client.add_items(made, []) is None
    version = client.seal(made)
    assert (version.id, version.number, version.items, version.failed) == (added.version_id, 1, 5, 1)
    assert (version.labelled, version.is_sealed) == (2, True)
    shown = list(client.set_items(version, page_size=2))
    assert [item.custom_id for item in shown] == ["first", PATHS[1].name, "third", "fourth", None]
    assert (shown[0].true_label, shown[0].split, shown[0].image_id) == ("ring", "test", image_id)
    assert shown[1].sha256 == shown[2].sha256
    assert (shown[0].true_labels, shown[3].true_labels) == ((), ("ring", "star"))
    (failed,) = client.set_items(version, failed=True)
    assert failed.error is not None
    assert (failed.index, failed.state, failed.error.code) == (3, "failed", "not-an-image")
    assert client.version(version.id) == client.numbered_version(made, 1) == version
    manifest = client.download_manifest(version, tmp_path / "manifest.jsonl")
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() == version.manifest_sha256
    assert [json.loads(line)["index"] for line in manifest.open()] == list(range(5))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_a_folder_is_added_and_gone_on_with(client: Client, folder: Path) -> None:
    made = client.create_set("shapes")
    heard: list[FolderAdded] = []
    done = client.add_folder(made, folder, labels_from_folders=True, on_progress=heard.append)
    assert (done.total, done.there, done.added, done.failed) == (5, 0, 5, 1)
    assert [path.name for path in done.passed_over] == ["labels.csv"]
    assert (heard[0].added, heard[-1]) == (0, done)
    version = client.seal(made)
    assert [(item.custom_id, item.true_label, item.state) for item in client.set_items(version)] == [
        ("top.jpg", None, "succeeded"),
        ("ring/a.jpg", "ring", "succeeded"),
        ("ring/b.JPG", "ring", "succeeded"),
        ("star/a.jpg", "star", "succeeded"),
        ("star/torn.jpg", "star", "failed"),
    ]
    (folder / "new.jpg").write_bytes(PATHS[0].read_bytes())
    again = client.add_folder(made, folder)
    assert (again.total, again.there, again.added, again.failed) == (6, 5, 1, 0)
    assert client.seal(made).items == 6
    assert client.add_folder(made, folder).added == 0
    assert client.image_set(made).last_version.number == 2, "nothing new makes no version"
    archive = folder / "never.zip"
    archive.write_bytes(zip_of({"a.png": b""}))
    # nobody works here: while it waits, and when it never came to anything, the set has what it had
    job = client.ingest(made, archive)
    assert client.add_folder(made, folder).there == 6
    client.cancel(job)
    assert client.add_folder(made, folder).there == 6
    assert client.seal(made).number == 2


def test_what_the_service_refuses_is_told(client: Client, folder: Path) -> None:
    made = client.create_set("shapes")
    with pytest.raises(ConflictError, match="holds no picture"):
        client.seal(made)
    client.add_items(made, [("a", PATHS[0])])
    with pytest.raises(InvalidRequestError) as caught:
        client.add_items(made, [("a", PATHS[1])])
    assert caught.value.code == "duplicate-custom-id"
    with pytest.raises(NotFoundError):
        client.add_folder(f"ims_{'0' * 32}", folder)
    with pytest.raises(FileNotFoundError):
        client.add_folder(made, folder / "nowhere")


def test_what_was_added_although_its_answer_was_lost_is_not_added_twice(
    service: RunningService, folder: Path
) -> None:
    base = f"http://127.0.0.1:{service.port}"
    lost, unsure = httpx.ReadError("lost"), httpx.Response(502)
    faults = Faulty()
    with Client(base, service.key, retries=QUICK, transport=faults) as client:
        made = client.create_set("shapes")
        (image_id,) = client.upload(PATHS[0])
        for fault in (lost, unsure):
            faults.faults = [fault]
            client.add_items(made, [image_id])
            faults.faults = [fault]
            client.add_items(made, [(str(fault), PATHS[0])])
        assert client.image_set(made).last_version.items == 4
        known = client.image_set(client.create_set("shapes"))
        # behind the first look at the set
        faults.faults = [httpx.Response(200, json=dict(known.raw)), lost, unsure]
        done = client.add_folder(known, folder)
        assert (done.total, done.added, done.failed) == (5, 5, 1)
        assert client.seal(known).items == 5


def test_two_jobs_are_set_side_by_side_by_their_ids(client: Client) -> None:
    # what comes of it, the page on image sets shows in both ways, and the API's own tests
    nobodys = f"job_{'0' * 32}"
    with pytest.raises(InvalidRequestError) as compared:
        client.compare(nobodys, "job_other", same_truth={"a": "b"}, seed=1, idempotency_key="pairs")
    with pytest.raises(InvalidRequestError) as drifted:
        client.drift(nobodys, "job_other")
    assert (compared.value.code, drifted.value.code) == ("unknown-job", "unknown-job")


def test_an_archive_is_sent_from_the_disk_and_its_progress_told(client: Client, tmp_path: Path) -> None:
    made, heard = client.create_set("shapes"), list[tuple[int, int]]()
    archive, manifest = tmp_path / "shapes.tar", tmp_path / "shapes.csv"
    archive.write_bytes(tar_of({f"ring/{place}.bin": bytes(2**18) for place in range(8)}))
    manifest.write_text("file\nring/0.bin\n")
    key = f"ingest-{type(client).__name__}"

    def send() -> Job:
        return client.ingest(
            made,
            archive,
            manifest=manifest,
            folder_labels=True,
            tags={"of": "shapes"},
            on_progress=lambda *told: heard.append(told),
            idempotency_key=key,
        )

    job, size = send(), archive.stat().st_size
    assert (job.type, job.model, dict(job.raw["tags"])) == ("ingest", "analysis", {"of": "shapes"})
    assert heard[-1] == (size, size)
    assert len({sent for sent, _ in heard}) > 8
    assert send().id == job.id
    client.cancel(job)
    with pytest.raises(ValueError, match="give an archive"):
        client.ingest(made)
    with pytest.raises(InvalidRequestError) as refused:
        client.ingest_prefix(made, "s3://nobodys/")
    assert refused.value.code == "s3-not-allowed"
    client.add_items(made, [PATHS[0]])
    with pytest.raises(ConflictError) as missing:
        client.search(client.seal(made), "a ring")
    assert missing.value.code == "not-indexed"
