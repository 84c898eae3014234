"""Sources become items of a set: each once, and each failure is named."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from jobs import image_sets, ingesting, leases, sealing, sources
from jobs.blobs import BlobStore
from jobs.cancel import cancel, drop_work
from jobs.errors import NoInputError, NotEndedError, NotFoundError
from jobs.ingesting import NewSource
from jobs.leases import Holder
from jobs.sources import Stored, remove_sources
from models.image_set import ImageSetVersion
from models.queue import ANALYSIS
from tests.ingestions import ARCHIVE, MANIFEST, Ingest, Sessions, code_of, codes_of, items_of, keep, result_of
from tests.ledger import TENANT, assert_settled, read, scalar
from tests.packed import patched, tar_gz_of, tar_of, zip_of
from tests.scenes import tiny_png, tiny_pngs
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst


def test_an_archive_becomes_items_in_its_order(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, blobs: BlobStore
) -> None:
    files = {f"ring/{name}": data for name, data in tiny_pngs(450).items()}
    for begins, pack in ((0, zip_of), (450, tar_of), (900, tar_gz_of)):
        renamed = {f"{pack.__name__}/{name}": data for name, data in files.items()}
        job_id = ingest(pack(renamed), folder_labels=True)
        assert run_slice(analyst) is False
        assert result_of(sessions, job_id) == {
            "added": 450,
            "there": 0,
            "failed": 0,
            "skipped": 0,
            "first": begins,
        }
        assert read(sessions, job_id).state == "succeeded"
        items = items_of(sessions, set_id)[-450:]
        assert [item.custom_id for item in items] == list(renamed)
        assert {item.true_label for item in items} == {"ring"}
    # the same bytes three times: stored once
    assert scalar(sessions, "SELECT count(*) FROM images") == 450
    first = items_of(sessions, set_id)[0]
    assert first.sha256 is not None
    assert blobs.get(TENANT, first.sha256) == tiny_png(0)
    assert_settled(sessions)
    # nothing is left of what was added
    assert not list(blobs.folder.glob("*/sources/*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_wrong_with_a_file_is_told_of_its_item(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, picture: bytes
) -> None:
    files = {
        "good.jpg": picture,
        "torn.jpg": picture[:-400],
        "empty.jpg": b"",
        "notes.md": b"# notes",
        "../up.jpg": picture,
        "inner.zip": zip_of({"a.jpg": picture}),
        ".DS_Store": b"x",
    }
    job_id = ingest(zip_of([*files.items(), ("good.jpg", tiny_png(1))]))
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 1, "there": 0, "failed": 6, "skipped": 1, "first": 0}
    items = items_of(sessions, set_id)
    named = codes_of(items)
    nameless = [item.error for item in items if item.custom_id is None and item.error is not None]
    assert named.pop(None) is not None
    assert named == {
        "good.jpg": None,
        "torn.jpg": "image-truncated",
        "empty.jpg": "image-empty",
        "notes.md": "not-an-image",
        "inner.zip": "nested-archive",
    }
    assert [error["code"] for error in nameless] == ["member-unsafe-name", "duplicate-custom-id"]
    assert "'../up.jpg'" in nameless[0]["message"]
    assert "'good.jpg'" in nameless[1]["message"]
    assert read(sessions, job_id).state == "succeeded"


def test_a_broken_archive_keeps_what_came_before_and_says_what_to_do(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    whole = tar_of(tiny_pngs(300))
    job_id = ingest(whole[: len(whole) // 2])
    run_slice(analyst)
    added = len(items_of(sessions, set_id))
    error = result_of(sessions, job_id)
    assert error["code"] == "archive-truncated"
    assert f"added before it was found: {added}." in error["message"]
    assert 100 < added < 200
    assert read(sessions, job_id).state == "failed"
    for data, code in (
        (b"no archive", "not-an-archive"),
        (zip_of({}), "empty-source"),
        (b"", "not-an-archive"),
    ):
        job_id = ingest(data)
        run_slice(analyst)
        assert result_of(sessions, job_id)["code"] == code
    assert len(items_of(sessions, set_id)) == added
    assert_settled(sessions)


def test_a_manifest_names_pictures_that_are_kept(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    ingest(zip_of(tiny_pngs(2)))
    run_slice(analyst)
    first, second = items_of(sessions, set_id)
    assert first.image_id is not None
    lines = [
        {"image_id": f"img_{first.image_id.hex}", "custom_id": "one", "true_label": "ring", "split": "test"},
        {"sha256": second.sha256, "custom_id": "two"},
        {"sha256": "0" * 64, "custom_id": "three"},
        {"image_id": f"img_{uuid.uuid4().hex}", "custom_id": "four"},
        {"custom_id": "five"},
        {"file": "a.png", "custom_id": "six"},
        {"sha256": second.sha256, "custom_id": "one"},
    ]
    job_id = ingest(b"\n".join(map(orjson.dumps, lines)), MANIFEST)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 2, "there": 0, "failed": 5, "skipped": 0, "first": 2}
    items = items_of(sessions, set_id)[2:]
    assert [(item.custom_id, code_of(item)) for item in items] == [
        ("one", None),
        ("two", None),
        ("three", "unknown-image"),
        ("four", "unknown-image"),
        (None, "bad-line"),
        ("six", "file-missing"),
        (None, "duplicate-custom-id"),
    ]
    assert (items[0].true_label, items[0].split, items[0].image_id) == ("ring", "test", first.image_id)
    assert "Line 5 " in str(items[4].error)
    # not a manifest at all
    job_id = ingest(tiny_png(1), MANIFEST)
    run_slice(analyst)
    assert result_of(sessions, job_id)["code"] == "not-a-manifest"


@pytest.mark.parametrize("pack", [zip_of, tar_gz_of])
def test_a_manifest_names_the_files_of_an_archive_beside_it(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, pack: Callable[[Any], bytes]
) -> None:
    archive = pack([("./b.png", tiny_png(1)), ("a.png", tiny_png(2)), ("c.png", b"x"), ("other.png", b"")])
    manifest = (
        "file,custom_id,true_label,true_labels\nmissing.png,,,\na.png,,ring,\nb.png,one,star,\n"
        "b.png,two,,ring|star\nc.png,,ring,\n"
    )
    job_id = ingest((manifest + "x\n").encode(), MANIFEST, archive)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 3, "there": 0, "failed": 3, "skipped": 1, "first": 0}
    found = [(item.custom_id, item.true_label, code_of(item)) for item in items_of(sessions, set_id)]
    assert found == [
        (None, None, "bad-line"),
        ("one", "star", None),
        ("two", None, None),
        ("a.png", "ring", None),
        ("c.png", "ring", "not-an-image"),
        ("missing.png", None, "file-missing"),
    ]
    assert [item.true_labels for item in items_of(sessions, set_id)][1:3] == [None, ["ring", "star"]]


def test_a_set_is_not_sealed_under_an_ingestion_and_keeps_to_its_version(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    ingest(zip_of(tiny_pngs(2)))
    with sessions() as session, pytest.raises(NotEndedError):
        sealing.seal(session, TENANT, set_id)
    run_slice(analyst)
    late = ingest(zip_of({"late.png": tiny_png(9)}))
    with sessions.begin() as session:
        # as if it had been sealed in spite of it
        session.execute(text("UPDATE image_set_versions SET sealed_at = now(), manifest_sha256 = ''"))
    run_slice(analyst)
    assert result_of(sessions, late)["code"] == "version-sealed"
    assert len(items_of(sessions, set_id)) == 2


def test_an_ingestion_makes_a_version_once_it_adds_something(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    def last() -> ImageSetVersion:
        with sessions() as session:
            return session.scalars(image_sets.versions_of(set_id, limit=1)).one()

    ingest(zip_of(tiny_pngs(2)))
    run_slice(analyst)
    with sessions.begin() as session:
        sealed = sealing.seal(session, TENANT, set_id)
    cancelled = ingest(zip_of({"late.png": tiny_png(9)}))
    with sessions() as session, pytest.raises(NotEndedError):
        sealing.seal(session, TENANT, set_id)
    assert (last().id, last().items) == (sealed.id, 2)
    with sessions.begin() as session:
        cancel(session, TENANT, cancelled)
        drop_work(session, cancelled)
        assert sealing.seal(session, TENANT, set_id).id == sealed.id
    ingest(zip_of({}))
    run_slice(analyst)
    assert last().id == sealed.id
    ingest(zip_of({"late.png": tiny_png(9)}))
    run_slice(analyst)
    assert (last().number, last().items) == (2, 3)


def test_what_is_ingested_again_is_passed_over(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    shapes = {"ring/a.png": tiny_png(1), "ring/b.png": tiny_png(2), "ring/torn.png": tiny_png(3)[:-20]}
    ingest(zip_of(shapes), folder_labels=True)
    run_slice(analyst)
    with sessions.begin() as session:
        sealed = sealing.seal(session, TENANT, set_id)
    # packed otherwise, and one of them twice
    again = [ingest(tar_of([*shapes.items(), ("ring/a.png", tiny_png(1))]), folder_labels=True)]
    run_slice(analyst)
    again.append(ingest(zip_of(shapes), folder_labels=True))
    run_slice(analyst)
    assert [result_of(sessions, job_id) for job_id in again] == [
        {"added": 0, "there": 4, "failed": 0, "skipped": 0, "first": None},
        {"added": 0, "there": 3, "failed": 0, "skipped": 0, "first": None},
    ]
    with sessions.begin() as session:
        assert session.scalars(image_sets.versions_of(set_id, limit=1)).one().id == sealed.id
        assert sealing.seal(session, TENANT, set_id).id == sealed.id, "nothing was added to it"
    assert len(items_of(sessions, set_id)) == 3


def test_a_known_custom_id_of_other_bytes_or_labels_is_told_of(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    ingest(zip_of({"ring/a.png": tiny_png(1), "ring/b.png": tiny_png(2), "c.png": b""}), folder_labels=True)
    run_slice(analyst)
    other = {"ring/a.png": tiny_png(5), "ring/b.png": tiny_png(2), "c.png": b"#", "ring/d.png": tiny_png(4)}
    job_id = ingest(zip_of(other), folder_labels=True)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 1, "there": 1, "failed": 2, "skipped": 0, "first": 3}
    images = {item.custom_id: item.sha256 for item in items_of(sessions, set_id)}
    lines = [
        {"sha256": images["ring/b.png"], "custom_id": "ring/b.png", "true_label": "star"},
        {"sha256": images["ring/b.png"], "custom_id": "ring/b.png", "true_label": "ring", "split": "test"},
        {"sha256": images["ring/b.png"], "custom_id": "ring/b.png", "true_label": "ring"},
        {"sha256": images["ring/b.png"], "custom_id": "c.png"},
    ]
    job_id = ingest(b"\n".join(map(orjson.dumps, lines)), MANIFEST)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 0, "there": 1, "failed": 3, "skipped": 0, "first": 6}
    found = [(item.custom_id, code_of(item)) for item in items_of(sessions, set_id)[3:]]
    assert found == [
        (None, "duplicate-custom-id"),
        (None, "not-an-image"),
        ("ring/d.png", None),
        *[(None, "duplicate-custom-id")] * 3,
    ]


def test_a_set_that_is_full_or_gone_takes_no_more(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest, blobs: BlobStore
) -> None:
    with sessions.begin() as session:
        source = NewSource("many", ARCHIVE, keep(blobs, zip_of(tiny_pngs(5))))
        full = ingesting.submit_ingest(session, TENANT, set_id, [source], most_items=4).id
    run_slice(analyst)
    assert result_of(sessions, full)["code"] == "too-many-items"
    gone = ingest(zip_of(tiny_pngs(2)))
    with sessions.begin() as session:
        image_sets.delete_set(session, TENANT, set_id)
    run_slice(analyst)
    assert result_of(sessions, gone)["code"] == "not-found"
    with sessions() as session, pytest.raises(NotFoundError):
        ingesting.submit_ingest(session, TENANT, set_id, [source])
    with sessions() as session, pytest.raises(NoInputError):
        ingesting.submit_ingest(session, TENANT, set_id, [])


def test_one_source_is_claimed_at_a_time(sessions: Sessions, set_id: uuid.UUID, blobs: BlobStore) -> None:
    several = [NewSource(str(number), ARCHIVE, Stored(uuid.uuid4(), 10)) for number in range(3)]
    with sessions.begin() as session:
        ingesting.submit_ingest(session, TENANT, set_id, several)
    holder = Holder(uuid.uuid4(), timedelta(seconds=30), timedelta(seconds=60))
    for _ in several:
        with sessions.begin() as session:
            claim = leases.claim(session, ANALYSIS, holder)
        assert claim is not None
        assert claim.size == 1


def test_sources_that_nobody_needs_are_removed_after_a_week(
    sessions: Sessions, blobs: BlobStore, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(zip_of(tiny_pngs(1)), MANIFEST, tar_of({}))
    keep(blobs, b"never submitted")
    with sessions.begin() as session:
        assert remove_sources(session, blobs) == 0
        monkeypatch.setattr(sources, "_age", lambda _: sources.KEPT.total_seconds() + 1)
        assert remove_sources(session, blobs) == 1
    assert len(list(blobs.folder.glob("*/sources/*"))) == 2


def test_a_lying_header_costs_its_member_alone(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, ingest: Ingest
) -> None:
    lying = patched(zip_of(tiny_pngs(3)), 1, 24, "<L", 10)
    job_id = ingest(lying)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 2, "there": 0, "failed": 1, "skipped": 0, "first": 0}
    assert codes_of(items_of(sessions, set_id))["000001.png"] == "member-damaged"
