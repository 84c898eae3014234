"""A summary, from asking for it to its files: what it says is what the rows of its job say."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.reading import read_facts
from analysis.sets.schema import Summary
from analysis.two_jobs import Sources
from api.schemas.ids import job_id, parse_job_id, version_id
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs import indexing
from jobs.blobs import BlobStore
from jobs.errors import ResultsExpiredError
from jobs.set_tables import sources_of
from jobs.vectors import index_job
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_jobs_over_sets import BROKEN, FILES, results, sealed, submit, work
from tests.ledger import TENANT, assert_settled, read, scalar
from tests.runtimes import runtime_of
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime

Sessions = sessionmaker[Session]


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def summarise(api: TestClient, job: Any, **body: Any) -> Any:
    return api.post(f"/v1/jobs/{job['id']}/summaries", json=body)


def file(api: TestClient, job: Any, name: str, **headers: str) -> Any:
    return api.get(f"/v1/jobs/{job['id']}/files/{name}", headers=headers)


def test_a_summary_says_what_the_rows_of_its_job_say(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, [*FILES, None, FILES[0]])).json()
    work(runtime)
    answer = summarise(api, job, seed=3)
    assert answer.status_code == 202, answer.text
    assert not run_slice(analyst)
    shown = api.get(answer.json()["links"]["self"]).json()
    assert (shown["type"], shown["state"]) == ("summary", "succeeded")
    summary = Summary.model_validate(orjson.loads(file(api, shown, "summary.json").content))
    assert (summary.job_id, summary.seed) == (job["id"], 3)
    assert (summary.counts.total, summary.counts.failed, summary.counts.unique) == (6, 1, 4)
    # by hand, of each picture once: items with the same bytes are one image
    rows = api.get(job["links"]["results"]).json()["items"][:4]
    tops = np.array([row["top"]["label_by_layer"] for row in rows])
    for place, layer in enumerate(summary.layers):
        assert layer.n == 4
        assert layer.top1 == pytest.approx((tops[:, place] == "a cyan ring").mean(), abs=1e-12)
    assert_settled(sessions)


def test_files_can_be_read_in_parts_and_are_what_the_item_says(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, FILES)).json()
    work(runtime)
    shown = summarise(api, job).json()
    assert_problem(file(api, shown, "summary.json"), 404, "no-result-yet")
    run_slice(analyst)
    (item,) = api.get(shown["links"]["results"]).json()["items"]
    for name, told in item["files"].items():
        whole = file(api, shown, name)
        assert (whole.status_code, whole.headers["Content-Type"].partition(";")[0]) == (
            200,
            told["media_type"],
        )
        assert len(whole.content) == told["size_bytes"]
        assert hashlib.sha256(whole.content).hexdigest() == told["sha256"]
        assert file(api, shown, name, **{"If-None-Match": whole.headers["ETag"]}).status_code == 304
        part = file(api, shown, name, Range="bytes=10-19")
        # of the errors there are none here
        assert part.status_code == (206 if whole.content else 416)
        assert not whole.content or part.content == whole.content[10:20]
    layers = pq.read_table(io.BytesIO(file(api, shown, "layers.parquet").content))
    assert layers.num_rows == len(FILES) * 7
    items = pd.read_parquet(io.BytesIO(file(api, shown, "items.parquet").content))
    assert items["custom_id"].tolist() == [f"{place}-{path.name}" for place, path in enumerate(FILES)]
    assert_problem(file(api, shown, "passwd"), 404, "no-output")


def test_what_cannot_be_summarised_is_refused(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    waiting = submit(api, sealed(sessions, blobs, FILES[:1])).json()
    assert_problem(summarise(api, waiting), 409, "not-ended")
    body = {"type": "embedding", "input": {"texts": ["a ring"]}}
    texts = api.post("/v1/jobs", json=body).json()
    work(runtime)
    assert_problem(summarise(api, texts), 409, "not-over-set")
    assert_problem(summarise(api, waiting, seed=-1), 422, "invalid-request")
    assert_problem(api.post(f"/v1/jobs/job_{'0' * 32}/summaries"), 404, "not-found")
    change(sessions, "UPDATE jobs SET expires_at = now()")
    assert_problem(summarise(api, waiting), 410, "results-expired")
    change(sessions, "UPDATE jobs SET expires_at = NULL")
    change(sessions, "UPDATE jobs SET succeeded = 0, failed = 1 WHERE version_id IS NOT NULL")
    assert_problem(summarise(api, waiting), 409, "nothing-to-summarise")


def test_a_key_makes_one_summary(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, FILES[:1])).json()
    work(runtime)
    path, key = f"/v1/jobs/{job['id']}/summaries", {"Idempotency-Key": "once"}
    first, second = (api.post(path, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert_problem(api.post(path, headers=key, json={"seed": 1}), 422, "idempotency-key-reused")


def test_what_a_retry_computed_counts_in_the_place_of_what_failed(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, sealed(sessions, blobs, [FILES[0], None, *FILES[1:]])).json()
    sha256 = hashlib.sha256(FILES[2].read_bytes()).hexdigest()
    (gone,) = blobs.room(TENANT).rglob(sha256)
    gone.rename(gone.with_suffix(".away"))
    work(runtime)
    gone.with_suffix(".away").rename(gone)
    retry = api.post(f"/v1/jobs/{job['id']}/retry", json={"scope": "failed_items"}).json()
    work(runtime)
    assert [item["retry_of_index"] for item in api.get(retry["links"]["results"]).json()["items"]] == [1, 3]
    again = api.post(f"/v1/jobs/{retry['id']}/retry", json={"scope": "all"}).json()
    work(runtime)
    for of in (job, again):
        shown = summarise(api, of).json()
        run_slice(analyst)
        counts = orjson.loads(file(api, shown, "summary.json").content)["counts"]
        items = pd.read_parquet(io.BytesIO(file(api, shown, "items.parquet").content))
        if of is job:
            assert (counts["succeeded"], counts["failed"], counts["retried"]) == (4, 1, 1)
            assert items["index"].tolist() == [0, 1, 2, 3, 4]
        else:
            # a retry alone is of its own items, by what the version calls them
            assert (counts["succeeded"], counts["failed"], counts["retried"]) == (1, 1, 0)
            assert items["index"].tolist() == [1, 3]
            assert items["custom_id"].tolist() == ["broken-1", f"3-{FILES[2].name}"]
        assert items.set_index("index")["error_code"].to_dict()[1] == BROKEN["code"]
    # of a retry whose results are about to go nothing counts
    change(sessions, "UPDATE jobs SET expires_at = now() WHERE retry_of IS NOT NULL")
    with sessions() as session:
        (source,) = sources_of(session, read(sessions, parse_job_id(job["id"])))
    assert job_id(source.job_id) == job["id"]


def test_results_that_go_while_they_are_read_are_not_taken_for_all_there_were(
    api: TestClient,
    runtime: Runtime,
    analyst: Analyst,
    sessions: Sessions,
    blobs: BlobStore,
    tmp_path: Path,
) -> None:
    wire = submit(api, sealed(sessions, blobs, FILES[:2])).json()
    work(runtime)
    job = read(sessions, parse_job_id(wire["id"]))

    def expire() -> None:
        change(sessions, "UPDATE jobs SET expires_at = now() WHERE id = :id", id=job.id)

    for reading in (
        lambda: read_facts(sessions, blobs, job, tmp_path, expire),
        lambda: Sources(sessions, blobs, expire).thumbnails(job, [0]),
        lambda: index_job(sessions, blobs, job, expire),
    ):
        change(sessions, "UPDATE jobs SET expires_at = NULL")
        with pytest.raises(ResultsExpiredError, match=wire["id"]):
            reading()
    assert scalar(sessions, "SELECT indexed_at FROM set_indexes") is None
    # and those that are past their time when an analyst comes to them
    change(sessions, "UPDATE jobs SET expires_at = NULL")
    shown = summarise(api, wire).json()
    expire()
    assert not run_slice(analyst)
    assert results(api, shown)[0]["error"]["code"] == "results-expired"


def test_a_large_set_is_made_searchable_by_a_job_that_follows_its_summary(
    api: TestClient,
    runtime: Runtime,
    analyst: Analyst,
    sessions: Sessions,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexing, "LARGE", len(FILES) - 1)
    version = sealed(sessions, blobs, FILES)
    job = submit(api, version).json()
    work(runtime)
    shown = summarise(api, job).json()
    # a unit at a time
    unhurried = replace(analyst, settings=analyst.settings.model_copy(update={"slice_seconds": 0}))
    search = f"/v1/image-set-versions/{version_id(version)}/search"
    assert run_slice(unhurried)
    assert file(api, shown, "summary.json").status_code == 200
    assert_problem(api.post(search, json={"like_index": 0}), 409, "not-indexed")
    # another summary would not have it indexed twice
    of, summary = (read(sessions, parse_job_id(each["id"])) for each in (job, shown))
    with sessions.begin() as session:
        assert indexing.submit_indexing(session, of, summary) is None
    run_slice(analyst)
    (indexed,) = api.get("/v1/jobs", params={"type": "index"}).json()["items"]
    (item,) = api.get(indexed["links"]["results"]).json()["items"]
    assert (indexed["state"], item["vectors"]) == ("succeeded", len(FILES))
    assert len(api.post(search, json={"like_index": 0}).json()["items"]) == len(FILES) - 1
    assert_settled(sessions)
