"""Jobs over a version of an image set, from submit to rows and tables."""

import hashlib
import io
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import UNLABELLED
from analysis.sets.reading import read_facts
from api.schemas.ids import parse_job_id, version_id
from engine.catalog import DEMO_MODEL
from engine.lens import Lens
from engine.siglip import SiglipEngine
from jobs import adding, copying, image_sets, images
from jobs.adding import NewItem
from jobs.blobs import BlobStore
from jobs.errors import UnknownImageSetError
from jobs.images import Content
from jobs.sealing import seal
from jobs.tables import read_tables, read_thumbnails, tables_of, told_of
from tests.conftest import SAMPLES
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, assert_settled, read, scalar
from tests.runtimes import runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime, open_decoders

Sessions = sessionmaker[Session]

FILES = sorted(SAMPLES.glob("*.jpg"))[:4]
LABELS = ["a cyan ring", "a red square", "a pink arrow"]
BROKEN = {"code": "image-unknown-format", "message": "It is no picture.", "retryable": False}


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def work(runtime: Runtime) -> None:
    with open_decoders(runtime.settings, runtime.engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))


def sealed(
    sessions: Sessions,
    blobs: BlobStore,
    files: Sequence[Path | None],
    tenant: str = TENANT,
    several: Sequence[str] = (),
) -> uuid.UUID:
    """A sealed version of these pictures; None is one that is none. `several` are true of the first."""
    contents = {
        file: Content(blobs.put(tenant, file.read_bytes()), file.stat().st_size, "image/jpeg")
        for file in files
        if file is not None
    }
    with sessions.begin() as session:
        kept = images.keep(session, tenant, contents.values())
        items = [
            NewItem(None, f"broken-{place}", error=BROKEN)
            if file is None
            else NewItem(kept[contents[file].sha256].image.id, f"{place}-{file.name}", LABELS[0])
            for place, file in enumerate(files)
        ]
        if several:
            items[0] = replace(items[0], true_label=None, true_labels=tuple(several))
        set_id = image_sets.create_set(session, tenant, "shapes").id
        adding.add_items(session, tenant, set_id, items, 1_000)
        return seal(session, tenant, set_id).id


def submit(api: TestClient, version: uuid.UUID, **more: Any) -> Any:
    body = {
        "type": "logit_lens",
        "input": {"image_set_version": version_id(version)},
        "labels": LABELS,
        "priority": "bulk",
    }
    return api.post("/v1/jobs", json=body | more)


def results(api: TestClient, job: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get(job["links"]["results"]).json()["items"]
    return items


def test_a_job_over_a_set_has_a_result_for_each_of_its_items(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, [*FILES, None])
    answer = submit(api, version)
    assert answer.status_code == 202, answer.text
    work(runtime)
    job = api.get(answer.json()["links"]["self"]).json()
    assert (job["state"], job["progress"]["succeeded"], job["progress"]["failed"]) == ("partial", 4, 1)
    items = results(api, job)
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4]
    assert [item["custom_id"] for item in items] == [
        *(f"{place}-{file.name}" for place, file in enumerate(FILES)),
        "broken-4",
    ]
    assert items[4]["error"]["code"] == BROKEN["code"]
    assert_settled(sessions)


def test_pictures_that_are_alike_are_computed_once_and_answered_each(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FILES[:2]
    version = sealed(sessions, blobs, [first, second, first, first])
    job = submit(api, version).json()
    seen: list[int] = []
    lens = SiglipEngine.lens

    def counted(self: SiglipEngine, pictures: Any, *given: Any, **named: Any) -> Lens:
        seen.append(len(pictures))
        return lens(self, pictures, *given, **named)

    monkeypatch.setattr(SiglipEngine, "lens", counted)
    work(runtime)
    assert sum(seen) == 2
    items = results(api, job)
    assert [item["state"] for item in items] == ["succeeded"] * 4
    assert items[0]["pooled"] == items[2]["pooled"] == items[3]["pooled"] != items[1]["pooled"]
    assert len({item["custom_id"] for item in items}) == 4


def test_the_tables_of_a_job_hold_the_numbers_of_its_results(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, [*FILES, None, FILES[0]])
    job = submit(api, version, options={"outputs": ["pooled", "embeddings"]}).json()
    work(runtime)
    job_id = parse_job_id(job["id"])
    with sessions() as session:
        tokens = session.scalars(tables_of(job_id)).all()
    (table,) = read_tables(blobs, TENANT, job_id, tokens)
    told = told_of(table)
    assert told["labels"] == LABELS
    assert table["index"].to_pylist() == [0, 1, 2, 3, 5]
    items = {item["index"]: item for item in results(api, job)}
    shape = (len(told["layers"]), len(LABELS))
    for row in table.to_pylist():
        item = items[row["index"]]
        np.testing.assert_allclose(
            np.reshape(row["cosine"], shape), item["pooled"]["cosine"], rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(row["logit"], item["pooled"]["final"]["logit"], rtol=1e-6)
        layers = np.reshape(row["layer_vectors"], (shape[0], told["width"]))
        np.testing.assert_allclose(np.linalg.norm(layers, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(layers[-1], row["vector"], atol=1e-5)
    thumbnails = read_thumbnails([table], [0, 5, 7])
    assert sorted(thumbnails) == [0, 5]
    with Image.open(io.BytesIO(thumbnails[0])) as thumbnail, Image.open(FILES[0]) as picture:
        assert (thumbnail.format, max(thumbnail.size)) == ("JPEG", 96)
        seen = np.asarray(picture.convert("RGB").resize(thumbnail.size), dtype=np.float32)
        assert np.abs(np.asarray(thumbnail, dtype=np.float32) - seen).mean() < 8
    hashes = table["phash"].to_pylist()
    assert hashes[0] == hashes[4]
    assert len(set(hashes)) == 4


def test_the_facts_of_a_job_are_gathered_from_its_tables(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore, tmp_path: Path
) -> None:
    version = sealed(sessions, blobs, [None, *FILES, FILES[0]])
    job = submit(api, version).json()
    work(runtime)
    (scratch := tmp_path / "scratch").mkdir()
    change(sessions, "UPDATE image_set_items SET true_label = 'a horse' WHERE index = 5")
    facts = read_facts(sessions, blobs, read(sessions, parse_job_id(job["id"])), scratch)
    items = results(api, job)
    assert facts.index.tolist() == [1, 2, 3, 4, 5]
    assert facts.labels == tuple(LABELS)
    assert facts.true_label.tolist() == [0, 0, 0, 0, UNLABELLED]
    assert facts.strange == {"a horse": 1}
    assert facts.origin.model["id"] == DEMO_MODEL
    assert (facts.origin.model["layers"], facts.origin.model["grid"]) == (6, [10, 10])
    assert [(each.index, each.code) for each in facts.failed] == [(0, BROKEN["code"])]
    contents = facts.contents.tolist()
    assert contents[0] == contents[4]
    assert len(set(contents)) == 4
    for row, index in enumerate(facts.index):
        item = items[int(index)]
        np.testing.assert_allclose(facts.cosine[row], item["pooled"]["cosine"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(facts.logit[row], item["pooled"]["final"]["logit"], rtol=1e-6)
    # of a small set, all are sampled
    assert facts.sampled.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(facts.layer_vectors[:, -1], facts.vectors, atol=1e-5)
    assert len(facts.dropped) == 0
    # what has no row was never computed
    change(sessions, "DELETE FROM results WHERE index = 0")
    (scratch := tmp_path / "again").mkdir()
    facts = read_facts(sessions, blobs, read(sessions, parse_job_id(job["id"])), scratch)
    assert (facts.failed, facts.dropped.index.tolist()) == ([], [0])
    assert facts.dropped.custom_ids.to_pylist() == ["broken-0"]
    assert facts.index.tolist() == [1, 2, 3, 4, 5]


def test_of_a_set_that_is_deleted_while_it_is_read_there_are_no_facts(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore, tmp_path: Path
) -> None:
    job = submit(api, sealed(sessions, blobs, FILES[:2])).json()
    work(runtime)
    found = read(sessions, parse_job_id(job["id"]))

    def step() -> None:
        # names are written once the items were read
        if (tmp_path / "custom_ids.arrow").exists():
            change(sessions, "DELETE FROM image_set_items WHERE index = 0")

    for _ in ("while it is read", "before"):
        with pytest.raises(UnknownImageSetError):
            read_facts(sessions, blobs, found, tmp_path, step)


def test_where_an_item_has_several_true_labels_all_items_have_a_list_of_them(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore, tmp_path: Path
) -> None:
    named = [LABELS[2], "a label that the job does not ask about", LABELS[0]]
    version = sealed(sessions, blobs, [FILES[0], FILES[1], None], several=named)
    job = submit(api, version).json()
    work(runtime)
    facts = read_facts(sessions, blobs, read(sessions, parse_job_id(job["id"])), tmp_path)
    assert facts.true_label.tolist() == [-1, -1]
    assert facts.truths is not None
    assert facts.truths.of(np.arange(2), 3).tolist() == [[True, False, True], [True, False, False]]
    assert [(each.true_label, each.true_labels) for each in facts.failed] == [(-1, ())]
    assert facts.maps is not None
    assert sorted(facts.maps.rows.tolist()) == [0, 1]


def test_maps_of_labels_are_kept_beside_the_results_and_in_none_of_them(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, [*FILES[:2], FILES[0]])).json()
    work(runtime)
    assert all("patch" not in item for item in results(api, job))
    job_id = parse_job_id(job["id"])
    with sessions() as session:
        tokens = session.scalars(tables_of(job_id)).all()
    (table,) = read_tables(blobs, TENANT, job_id, tokens)
    grid = runtime.engine.config.grid
    assert told_of(table)["maps"] == {"grid": list(grid), "layer": 6, "method": "value"}
    kept = np.stack(table["label_maps"].to_pylist()).reshape(3, len(LABELS), *grid)
    pictures = [Image.open(file).convert("RGB") for file in FILES[:2]]
    lens = runtime.engine.lens(
        pictures,
        LABELS,
        outputs=["patch"],
        patch_method="value",
    )
    assert lens.patch is not None
    np.testing.assert_allclose(kept, lens.patch.cosine[[0, 1, 0], 0], atol=2e-3)


def test_embeddings_are_kept_item_by_item_only_where_they_are_asked_for(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, FILES[:1])).json()
    work(runtime)
    (item,) = results(api, job)
    assert "embeddings" not in item


def test_a_version_that_is_open_or_of_others_is_refused(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    with sessions.begin() as session:
        set_id = image_sets.create_set(session, TENANT, "open").id
        opened = copying.open_version(session, TENANT, set_id).id
    assert_problem(submit(api, opened), 409, "not-sealed")
    for unknown in (sealed(sessions, blobs, FILES[:1], tenant="others"), uuid.uuid4()):
        assert_problem(submit(api, unknown), 422, "unknown-image-set-version")
    body = {"type": "embedding", "input": {"image_set_version": "isv_1", "texts": ["a"]}}
    assert_problem(api.post("/v1/jobs", json=body), 422, "invalid-request")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_the_same_key_finds_the_same_job_and_another_version_is_refused(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    versions = [sealed(sessions, blobs, FILES[:count]) for count in (1, 2)]
    key = {"Idempotency-Key": hashlib.sha256(b"once").hexdigest()}
    body = {"type": "logit_lens", "labels": LABELS}
    answers = [
        api.post("/v1/jobs", json=body | {"input": {"image_set_version": version_id(each)}}, headers=key)
        for each in (versions[0], versions[0], versions[1])
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert_problem(answers[2], 422, "idempotency-key-reused")


def test_the_request_of_a_job_over_a_set_names_the_version(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    job = submit(api, version).json()
    asked = api.get(job["links"]["request"]).json()
    assert asked["input"] == {"image_set_version": version_id(version)}
    again = api.post("/v1/jobs", json=asked)
    assert (again.status_code, again.json()["progress"]["total"]) == (202, 2)
