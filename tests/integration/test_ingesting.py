"""Sources become items of a set: each once, each failure named, and gone on with where they were left."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import image_sets, ingesting, leases, retry, sealing, sources, unpacking
from jobs.admission import Quota
from jobs.blobs import BlobStore
from jobs.cancel import cancel
from jobs.errors import BlobStoreMissingError, NoInputError, NotEndedError, NotFoundError
from jobs.ingesting import NewSource, OvertakenError, Progress, SourceForm, Target
from jobs.leases import Holder
from jobs.retry import RetryScope
from jobs.sources import Stored, put_source, remove_sources
from models.image_set import ImageSetItem, ImageSetVersion
from models.job import Job, Result
from models.queue import ANALYSIS
from tests.ledger import TENANT, assert_settled, read, scalar
from tests.packed import patched, tar_gz_of, tar_of, zip_of
from tests.scenes import tiny_png, tiny_pngs
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst

Sessions = sessionmaker[Session]
ARCHIVE, MANIFEST = SourceForm.ARCHIVE, SourceForm.MANIFEST


@pytest.fixture
def set_id(sessions: Sessions) -> uuid.UUID:
    with sessions.begin() as session:
        return image_sets.create_set(session, TENANT, "shapes").id


Submit = Callable[..., uuid.UUID]


@pytest.fixture
def submit(sessions: Sessions, blobs: BlobStore, set_id: uuid.UUID) -> Submit:
    """Submits one source, with an archive beside it perhaps."""

    def submit_one(
        data: bytes, form: SourceForm = ARCHIVE, beside: bytes | None = None, **how: Any
    ) -> uuid.UUID:
        archive = None if beside is None else keep(blobs, beside)
        source = NewSource("source", form, keep(blobs, data), archive, **how)
        with sessions.begin() as session:
            return ingesting.submit_ingest(session, TENANT, set_id, [source]).id

    return submit_one


def keep(blobs: BlobStore, data: bytes) -> Stored:
    return put_source(blobs, TENANT, [data[:100], data[100:]])


def items_of(sessions: Sessions, set_id: uuid.UUID) -> list[ImageSetItem]:
    """All items of a set's last version, which must be dense."""
    with sessions() as session:
        version = session.scalars(
            select(ImageSetVersion)
            .where(ImageSetVersion.set_id == set_id)
            .order_by(ImageSetVersion.number.desc())
            .limit(1)
        ).one()
        items = list(session.scalars(image_sets.items_page(version.id, after=-1, limit=100_000)))
        assert [item.index for item in items] == list(range(version.items))
        assert version.failed == sum(item.error is not None for item in items)
        return items


def result_of(sessions: Sessions, job_id: uuid.UUID) -> dict[str, Any]:
    """The payload or the error of a job's only item."""
    with sessions() as session:
        result = session.scalars(select(Result).where(Result.job_id == job_id)).one()
        found: dict[str, Any] = result.payload or result.error or {}
        return found


def codes_of(items: list[ImageSetItem]) -> dict[str | None, str | None]:
    return {item.custom_id: code_of(item) for item in items}


def code_of(item: ImageSetItem) -> str | None:
    return None if item.error is None else str(item.error["code"])


def test_an_archive_becomes_items_in_its_order(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, blobs: BlobStore
) -> None:
    files = {f"ring/{name}": data for name, data in tiny_pngs(450).items()}
    for pack in (zip_of, tar_of, tar_gz_of):
        renamed = {f"{pack.__name__}/{name}": data for name, data in files.items()}
        job_id = submit(pack(renamed), folder_labels=True)
        assert run_slice(analyst) is False
        assert result_of(sessions, job_id) == {"added": 450, "failed": 0, "skipped": 0}
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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, picture: bytes
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
    job_id = submit(zip_of([*files.items(), ("good.jpg", tiny_png(1))]))
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 1, "failed": 6, "skipped": 1}
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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit
) -> None:
    whole = tar_of(tiny_pngs(300))
    job_id = submit(whole[: len(whole) // 2])
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
        job_id = submit(data)
        run_slice(analyst)
        assert result_of(sessions, job_id)["code"] == code
    assert len(items_of(sessions, set_id)) == added
    assert_settled(sessions)


def test_a_manifest_names_pictures_that_are_kept(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit
) -> None:
    submit(zip_of(tiny_pngs(2)))
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
    job_id = submit(b"\n".join(map(orjson.dumps, lines)), MANIFEST)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 2, "failed": 5, "skipped": 0}
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
    job_id = submit(tiny_png(1), MANIFEST)
    run_slice(analyst)
    assert result_of(sessions, job_id)["code"] == "not-a-manifest"


@pytest.mark.parametrize("pack", [zip_of, tar_gz_of])
def test_a_manifest_names_the_files_of_an_archive_beside_it(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, pack: Callable[[Any], bytes]
) -> None:
    archive = pack([("./b.png", tiny_png(1)), ("a.png", tiny_png(2)), ("c.png", b"x"), ("other.png", b"")])
    manifest = (
        "file,custom_id,true_label\nmissing.png,,\na.png,,ring\nb.png,one,star\nb.png,two,\nc.png,,ring\n"
    )
    job_id = submit((manifest + "x\n").encode(), MANIFEST, archive)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 3, "failed": 3, "skipped": 1}
    found = [(item.custom_id, item.true_label, code_of(item)) for item in items_of(sessions, set_id)]
    assert found == [
        (None, None, "bad-line"),
        ("one", "star", None),
        ("two", None, None),
        ("a.png", "ring", None),
        ("c.png", "ring", "not-an-image"),
        ("missing.png", None, "file-missing"),
    ]


def left_at_every_chunk(analyst: Analyst, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Chunks of a size, and an analyst that leaves its work after each."""
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", size)
    monkeypatch.setattr(Analyst, "is_to_pause", lambda *_: True)


def test_work_that_is_left_after_every_chunk_comes_to_the_same(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_at_every_chunk(analyst, monkeypatch, 3)
    shard = {
        f"{number}.{kind}": tiny_png(number) if kind == "png" else b"1"
        for number in range(10)
        for kind in ("cls", "png")
    }
    jobs = [submit(pack(shard)) for pack in (zip_of, tar_of, tar_gz_of)]
    files = [{"file": f"{number}.png", "custom_id": f"named {number}"} for number in range(12)]
    lines = [{"sha256": "0" * 64}] * 4
    jobs.append(submit(b"\n".join(map(orjson.dumps, [*files, *lines])), MANIFEST, tar_gz_of(shard)))
    run_slice(analyst)
    assert [result_of(sessions, job_id) for job_id in jobs] == [
        {"added": 10, "failed": 0, "skipped": 0},
        # named as those of the first
        {"added": 0, "failed": 10, "skipped": 0},
        {"added": 0, "failed": 10, "skipped": 0},
        {"added": 10, "failed": 6, "skipped": 10},
    ]
    items = items_of(sessions, set_id)
    assert len(items) == 46
    assert [item.true_label for item in items[:10]] == ["1"] * 10
    assert scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome = 'released'") >= 12
    assert (
        scalar(sessions, "SELECT count(*) FROM attempts WHERE outcome NOT IN ('released', 'completed')") == 0
    )
    assert_settled(sessions)


def test_whoever_was_overtaken_adds_nothing(
    sessions: Sessions, set_id: uuid.UUID, submit: Submit, blobs: BlobStore
) -> None:
    job_id = submit(zip_of(tiny_pngs(5)))
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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit
) -> None:
    job_id = submit(zip_of(tiny_pngs(3)))
    whole = {"phase": "done", "place": 0, "key": "", "added": 3, "failed": 0, "skipped": 0}
    with sessions.begin() as session:
        progress = text(
            "UPDATE job_inputs SET items = jsonb_set(items, '{0,progress}', CAST(:told AS jsonb))"
        )
        session.execute(progress, {"told": orjson.dumps(whole).decode()})
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 3, "failed": 0, "skipped": 0}
    assert items_of(sessions, set_id) == []


def test_a_set_is_not_sealed_under_an_ingestion_and_keeps_to_its_version(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit
) -> None:
    submit(zip_of(tiny_pngs(2)))
    with sessions() as session, pytest.raises(NotEndedError):
        sealing.seal(session, TENANT, set_id)
    run_slice(analyst)
    late = submit(zip_of({"late.png": tiny_png(9)}))
    with sessions.begin() as session:
        # as if it had been sealed in spite of it
        session.execute(text("UPDATE image_set_versions SET sealed_at = now(), manifest_sha256 = ''"))
    run_slice(analyst)
    assert result_of(sessions, late)["code"] == "version-sealed"
    assert len(items_of(sessions, set_id)) == 2


def test_a_set_that_is_full_or_gone_takes_no_more(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, blobs: BlobStore
) -> None:
    with sessions.begin() as session:
        source = NewSource("many", ARCHIVE, keep(blobs, zip_of(tiny_pngs(5))))
        full = ingesting.submit_ingest(session, TENANT, set_id, [source], most_items=4).id
    run_slice(analyst)
    assert result_of(sessions, full)["code"] == "too-many-items"
    gone = submit(zip_of(tiny_pngs(2)))
    with sessions.begin() as session:
        image_sets.delete_set(session, TENANT, set_id)
    run_slice(analyst)
    assert result_of(sessions, gone)["code"] == "not-found"
    with sessions() as session, pytest.raises(NotFoundError):
        ingesting.submit_ingest(session, TENANT, set_id, [source])
    with sessions() as session, pytest.raises(NoInputError):
        ingesting.submit_ingest(session, TENANT, set_id, [])


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
    with sessions.begin() as session:
        wanted = retry.find_retry(session, TENANT, job_id, RetryScope.FAILED_ITEMS, None)
        admission = retry.admit_retry(session, wanted, Catalog(), Quota(), reserve_as="")
    with sessions.begin() as session:
        again = retry.store_retry(session, wanted, admission)
        with pytest.raises(NotEndedError):
            sealing.seal(session, TENANT, set_id)
    run_slice(analyst)
    assert result_of(sessions, again.id) == {"added": 1, "failed": 0, "skipped": 0}
    assert [item.custom_id for item in items_of(sessions, set_id)] == ["000000.png", "late.png"]
    assert_settled(sessions)


def test_a_cancelled_ingestion_stops_at_its_next_step(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 1)
    job_id = submit(zip_of(tiny_pngs(2_000)))

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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 10)
    job_id = submit(tar_of(tiny_pngs(50)))
    broken: Iterator[bool] = iter([True, True])

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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(zip_of(tiny_pngs(3)))
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
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, blobs: BlobStore
) -> None:
    job_id = submit(zip_of(tiny_pngs(3)))
    away = blobs.folder.rename(blobs.folder.with_name("away"))
    with pytest.raises(BlobStoreMissingError):
        run_slice(analyst)
    away.rename(blobs.folder)
    assert scalar(sessions, "SELECT losses FROM work") == 0
    run_slice(analyst)
    assert result_of(sessions, job_id)["added"] == 3


def test_a_fault_of_ours_is_tried_again(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(zip_of(tiny_pngs(3)))

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
    sessions: Sessions, blobs: BlobStore, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(zip_of(tiny_pngs(1)), MANIFEST, tar_of({}))
    keep(blobs, b"never submitted")
    with sessions.begin() as session:
        assert remove_sources(session, blobs) == 0
        monkeypatch.setattr(sources, "_age", lambda _: sources.KEPT.total_seconds() + 1)
        assert remove_sources(session, blobs) == 1
    assert len(list(blobs.folder.glob("*/sources/*"))) == 2


def test_a_lying_header_costs_its_member_alone(
    analyst: Analyst, sessions: Sessions, set_id: uuid.UUID, submit: Submit
) -> None:
    lying = patched(zip_of(tiny_pngs(3)), 1, 24, "<L", 10)
    job_id = submit(lying)
    run_slice(analyst)
    assert result_of(sessions, job_id) == {"added": 2, "failed": 1, "skipped": 0}
    assert codes_of(items_of(sessions, set_id))["000001.png"] == "member-damaged"
