"""Comparisons and drifts, from asking for them to their files: what they say is what rows and vectors say."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.findings import EMBEDDINGS, ERRORS, ITEMS, LABEL_MAPS, LAYERS, SUMMARY
from analysis.sets.schema import Summary
from analysis.sets.schema_documents import ComparisonDocument, DriftDocument
from api.schemas.ids import parse_job_id
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.tables import read_tables, tables_of
from tests.conftest import SAMPLES
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_jobs_over_sets import FILES, LABELS, results, sealed, submit, work
from tests.ledger import TENANT, assert_settled
from tests.runtimes import runtime_of
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime

Sessions = sessionmaker[Session]

MORE = sorted(SAMPLES.glob("*.jpg"))[4:10]
FILES_OF_SUMMARY = (SUMMARY, "report.html", ITEMS, LAYERS, EMBEDDINGS, LABEL_MAPS, ERRORS)
SWAPPED = [
    {"name": "ring", "prompts": [LABELS[1]]},
    {"name": "square", "prompts": [LABELS[0]]},
    {"name": "arrow", "prompts": [LABELS[2]]},
]
"""Labels that see a ring where there is a square, by other names."""
SAME = dict(zip(("ring", "square", "arrow"), LABELS, strict=True))


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def over(api: TestClient, runtime: Runtime, version: uuid.UUID, *labels: Any) -> list[Any]:
    """Ended jobs over a version, one for each list of labels."""
    jobs = [submit(api, version, labels=each).json() for each in labels]
    work(runtime)
    return jobs


def compare(api: TestClient, job: Any, other: Any, **more: Any) -> Any:
    return api.post("/v1/comparisons", json={"job_id": job["id"], "other_job_id": other["id"], **more})


def drift(api: TestClient, job: Any, reference: Any, **more: Any) -> Any:
    return api.post("/v1/drifts", json={"job_id": job["id"], "reference_job_id": reference["id"], **more})


def fetched(api: TestClient, analyst: Analyst, answer: Any, *names: str) -> list[bytes]:
    """The files of a job of an analyst, once it has done it."""
    assert answer.status_code == 202, answer.text
    assert not run_slice(analyst)
    job = api.get(answer.json()["links"]["self"]).json()
    assert job["state"] == "succeeded", job
    (item,) = results(api, job)
    assert set(item["files"]) == set(names)
    return [api.get(f"/v1/jobs/{job['id']}/files/{name}").content for name in names]


def tops(api: TestClient, job: Any) -> NDArray[Any]:
    return np.array([row["top"]["label_by_layer"] for row in results(api, job) if "top" in row])


def vectors(sessions: Sessions, blobs: BlobStore, job: Any) -> NDArray[np.float64]:
    job_id = parse_job_id(job["id"])
    with sessions() as session:
        tokens = session.scalars(tables_of(job_id)).all()
    rows = {
        row["index"]: row["vector"]
        for table in read_tables(blobs, TENANT, job_id, tokens)
        for row in table.select(["index", "vector"]).to_pylist()
    }
    return np.array([rows[index] for index in sorted(rows)], dtype=np.float64)


def mmd2(new: NDArray[np.float64], old: NDArray[np.float64], sigma: float) -> float:
    """Sum by sum, as Gretton et al. (2012) write it."""

    def mean(one: Sequence[Any], other: Sequence[Any], *, apart: bool) -> float:
        kernels = [
            np.exp(-((x - y) ** 2).sum() / (2 * sigma**2))
            for i, x in enumerate(one)
            for j, y in enumerate(other)
            if not apart or i != j
        ]
        return float(np.mean(kernels))

    new_, old_ = list(new), list(old)
    return mean(new_, new_, apart=True) + mean(old_, old_, apart=True) - 2 * mean(new_, old_, apart=False)


def test_a_comparison_says_what_the_rows_of_both_jobs_say(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job, other = over(api, runtime, sealed(sessions, blobs, [*FILES, None]), LABELS, SWAPPED)
    answer = compare(api, job, other, same_truth=SAME, seed=3)
    (told, page) = fetched(api, analyst, answer, "comparison.json", "report.html")
    document = ComparisonDocument.model_validate(orjson.loads(told))
    sides = (document.job, document.other)
    assert [side.job_id for side in sides] == [job["id"], other["id"]]
    assert {(side.manifest_sha256, side.succeeded, side.failed) for side in sides} == {
        (document.job.manifest_sha256, 4, 1)
    }
    assert (document.seed, document.same_truth, document.comparison.n) == (3, SAME, 4)
    right, other_right = tops(api, job) == LABELS[0], tops(api, other) == "ring"
    for place, layer in enumerate(document.comparison.layers):
        assert layer.top1 == pytest.approx(right[:, place].mean())
        assert layer.other_top1 == pytest.approx(other_right[:, place].mean())
        assert layer.difference == pytest.approx(right[:, place].mean() - other_right[:, place].mean())
        assert layer.only_this == (right & ~other_right)[:, place].sum()
        assert layer.only_other == (~right & other_right)[:, place].sum()
    alone = np.flatnonzero((right & ~other_right)[:, -1])
    assert len(alone)
    assert sorted(item.index for item in document.only_this.items) == alone.tolist()
    assert {(item.true_label, item.top) for item in document.only_this.items} == {(LABELS[0], LABELS[0])}
    # each with its picture, out of the tables
    assert page.count(b'background-image: url("data:image/jpeg') == len(
        document.only_this.items + document.only_other.items
    )
    assert b"<script" not in page
    assert_settled(sessions)


def test_a_drift_says_what_the_vectors_of_both_jobs_say(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    (reference,) = over(api, runtime, sealed(sessions, blobs, FILES), LABELS)
    (job,) = over(api, runtime, sealed(sessions, blobs, MORE), LABELS[:2])
    (told, page) = fetched(api, analyst, drift(api, job, reference, seed=3), "drift.json", "report.html")
    document = DriftDocument.model_validate(orjson.loads(told))
    assert (document.job.job_id, document.reference.job_id, document.seed) == (job["id"], reference["id"], 3)
    assert document.drift is not None
    new, old = (vectors(sessions, blobs, each) for each in (job, reference))
    distances = [np.linalg.norm(one - other) for place, one in enumerate(old) for other in old[:place]]
    assert document.drift.bandwidth == pytest.approx(np.median(distances), rel=1e-5)
    assert document.drift.mmd2 == pytest.approx(mmd2(new, old, document.drift.bandwidth), abs=1e-6)
    shown = [*document.drift.came, *document.drift.went]
    assert page.count(b'background-image: url("data:image/jpeg') == len(shown) > 0
    assert_settled(sessions)


def test_a_summary_sets_its_job_beside_others(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job, other = over(api, runtime, sealed(sessions, blobs, FILES), LABELS, SWAPPED)
    (reference,) = over(api, runtime, sealed(sessions, blobs, MORE), LABELS)
    path = f"/v1/jobs/{job['id']}/summaries"
    beside = {"compare_with": other["id"], "same_truth": SAME, "drift_from": reference["id"]}
    for wrong, code, pointer in (
        ({"compare_with": "job"}, "unknown-job", "/compare_with"),
        ({"compare_with": reference["id"]}, "incomparable", "/compare_with"),
        ({"compare_with": other["id"]}, "incomparable", "/same_truth"),
        ({"drift_from": other["id"]}, "incomparable", "/drift_from"),
        ({"same_truth": SAME}, "invalid-request", ""),
    ):
        problem = assert_problem(api.post(path, json=wrong), 422, code)
        assert [each["pointer"] for each in problem["errors"]] == [pointer]
    asked = api.post(path, json=beside | {"seed": 3})
    (told, page) = fetched(api, analyst, asked, *FILES_OF_SUMMARY)[:2]
    summary = Summary.model_validate(orjson.loads(told))
    # what they say apart
    alone = [compare(api, job, other, same_truth=SAME, seed=3), drift(api, job, reference, seed=3)]
    compared = fetched(api, analyst, alone[0], "comparison.json", "report.html")[0]
    drifted = fetched(api, analyst, alone[1], "drift.json", "report.html")[0]
    assert summary.comparison == ComparisonDocument.model_validate_json(compared).comparison
    assert summary.drift == DriftDocument.model_validate_json(drifted).drift
    assert b"No other job was named" not in page
    assert b"No reference version was named" not in page


def test_what_cannot_be_set_side_by_side_is_refused_where_it_is_named(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES[:2])
    job, other, alike = over(api, runtime, version, LABELS, SWAPPED, LABELS)
    (elsewhere,) = over(api, runtime, sealed(sessions, blobs, FILES[1:3]), LABELS)
    texts = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}}).json()
    work(runtime)
    waiting = submit(api, version).json()
    nobodys = {"id": f"job_{'0' * 32}"}
    here = "/other_job_id"
    for answer, status, code, pointer in (
        (compare(api, nobodys, other), 422, "unknown-job", "/job_id"),
        (compare(api, job, {"id": "job"}), 422, "unknown-job", here),
        (compare(api, job, texts), 409, "not-over-set", here),
        (compare(api, job, waiting), 409, "not-ended", here),
        (compare(api, job, job), 422, "incomparable", here),
        (compare(api, job, elsewhere), 422, "incomparable", here),
        (compare(api, job, other), 422, "incomparable", "/same_truth"),
        (compare(api, job, other, same_truth={"a/b": LABELS[0]}), 422, "incomparable", "/same_truth/a~1b"),
        (compare(api, job, other, same_truth={"ring": "none"}), 422, "incomparable", "/same_truth/ring"),
        (compare(api, job, other, same_truth={"ring": 1}), 422, "invalid-request", "/same_truth/ring"),
        (drift(api, job, job), 422, "incomparable", "/reference_job_id"),
        (drift(api, job, alike), 422, "incomparable", "/reference_job_id"),
        (drift(api, nobodys, job), 422, "unknown-job", "/job_id"),
    ):
        assert [each["pointer"] for each in assert_problem(answer, status, code)["errors"]] == [pointer]
    assert drift(api, job, elsewhere).status_code == 202
    change(sessions, "UPDATE jobs SET provenance = NULL WHERE id = :id", id=parse_job_id(elsewhere["id"]))
    assert_problem(drift(api, job, elsewhere), 422, "incomparable")
    # past their time, although they are still there; and gone
    for gone in (
        "UPDATE jobs SET expires_at = now() WHERE id = :id",
        "UPDATE jobs SET results_removed_at = now() WHERE id = :id",
    ):
        change(sessions, gone, id=parse_job_id(job["id"]))
        assert_problem(compare(api, job, alike), 410, "results-expired")
        change(sessions, "UPDATE jobs SET expires_at = NULL")
    change(sessions, "UPDATE jobs SET deleted_at = now() WHERE id = :id", id=parse_job_id(alike["id"]))
    assert_problem(compare(api, other, alike), 410, "job-deleted")


def test_what_an_analyst_finds_incomparable_is_the_items_error(
    api: TestClient, runtime: Runtime, analyst: Analyst, sessions: Sessions, blobs: BlobStore
) -> None:
    job, other = over(api, runtime, sealed(sessions, blobs, FILES[:2]), LABELS, LABELS)
    made = compare(api, job, other).json()
    other_truth = "UPDATE jobs SET options = options || CAST(:told AS jsonb) WHERE id = :id"
    told = '{"same_truth": {"a cyan ring": "a ring"}}'
    change(sessions, other_truth, told=told, id=parse_job_id(made["id"]))
    run_slice(analyst)
    (item,) = results(api, made)
    assert item["error"]["code"] == "incomparable"


def test_a_key_makes_one_comparison(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    job, other = over(api, runtime, sealed(sessions, blobs, FILES[:1]), LABELS, LABELS)
    body, key = {"job_id": job["id"], "other_job_id": other["id"]}, {"Idempotency-Key": "once"}
    first, second = (api.post("/v1/comparisons", json=body, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert_problem(
        api.post("/v1/comparisons", json=body | {"seed": 1}, headers=key), 422, "idempotency-key-reused"
    )
