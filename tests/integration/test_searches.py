"""Searching a version over HTTP: by text, by picture, by an item; who may, and what is refused."""

import uuid
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from api.schemas.ids import image_id, job_id, parse_job_id, version_id
from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs import image_sets, leases
from jobs.blobs import BlobStore
from jobs.errors import NothingToSummariseError
from jobs.keys import create_key
from jobs.leases import ItemResult, UnitResult
from jobs.tables import read_tables, tables_of
from jobs.vectors import index_job
from lensqueue_client import Client
from models.types import Scope
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_jobs_over_sets import FILES, sealed, submit, work
from tests.integration.test_polling import later
from tests.ledger import TENANT, assert_settled, claim, read, scalar, submit_texts
from tests.runtimes import runtime_of
from tests.set_vectors import KINDS, WEIGHTS, drawn, expected, indexed
from tests.set_vectors import version_of as made_version
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime

Sessions = sessionmaker[Session]
OTHERS = "others"
AT_ONCE = {"Prefer": "wait=0"}
PICTURES = 40


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def search(api: TestClient, version: uuid.UUID, body: dict[str, Any], **headers: Any) -> Any:
    return api.post(f"/v1/image-set-versions/{version_id(version)}/search", json=body, headers=headers)


def found(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [item["index"] for item in answer.json()["items"]]


def searchable(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> tuple[uuid.UUID, NDArray[np.float32]]:
    """A version of the sample pictures that a job was run over, and their vectors [item, width]."""
    version = sealed(sessions, blobs, [*FILES, None])
    job = parse_job_id(submit(api, version).json()["id"])
    work(runtime)
    assert index_job(sessions, blobs, read(sessions, job)) == len(FILES)
    with sessions() as session:
        tokens = session.scalars(tables_of(job)).all()
    (table,) = read_tables(blobs, TENANT, job, tokens)
    return version, np.stack([np.array(row) for row in table["vector"].to_pylist()])


def finish_query(sessions: Sessions, vector: NDArray[np.float32] | None) -> None:
    """End the query's job with this embedding, or as one that failed."""
    held = claim(sessions)
    assert held is not None
    error = {"code": "image-truncated", "message": "The file ends early.", "retryable": False}
    with sessions.begin() as session:
        results = [
            UnitResult(
                unit.job_id,
                unit.unit,
                [
                    ItemResult(item, error=error)
                    if vector is None
                    else ItemResult(item, payload={"dimensions": len(vector), "embedding": vector})
                    for item in unit.items
                ],
                {"model": DEMO_MODEL, "weights_sha256": WEIGHTS},
            )
            for unit in held.units
        ]
        assert leases.complete(session, held.token, results)


def bearer(sessions: Sessions, *scopes: Scope, tenant: str = TENANT) -> dict[str, str]:
    with sessions.begin() as session:
        made = create_key(session, name="scoped", tenant=tenant, scopes=scopes or [Scope.READ, Scope.SUBMIT])
    return {"Authorization": f"Bearer {made.key}"}


def test_a_text_is_embedded_by_a_worker_and_the_nearest_pictures_are_found(
    api: TestClient, runtime: Runtime, demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore
) -> None:
    version, vectors = searchable(api, runtime, sessions, blobs)
    with later(lambda: work(runtime)):
        answer = search(api, version, {"text": "a cyan ring", "template": "This is a photo of {}."})
    shown = answer.json()
    query = api.get(f"/v1/jobs/{shown['query_job']}/results").json()["items"][0]
    asked = demo_engine.embed_text("This is a photo of a cyan ring.").float().numpy()[0]
    np.testing.assert_allclose(query["embedding"], asked / np.linalg.norm(asked), atol=1e-5)
    assert found(answer) == expected(vectors, np.array(query["embedding"]))
    assert (shown["exact"], shown["model"], shown["version_id"]) == (True, DEMO_MODEL, version_id(version))
    for item in shown["items"]:
        assert item["cosine"] == pytest.approx(vectors[item["index"]] @ query["embedding"], abs=1e-3)
        assert item["custom_id"] == f"{item['index']}-{FILES[item['index']].name}"
    job = api.get(f"/v1/jobs/{shown['query_job']}").json()
    assert (job["type"], job["priority"], job["progress"]["total"]) == ("embedding", "interactive", 1)
    assert_settled(sessions)


def test_a_client_waits_for_what_it_looks_for_and_asks_again(
    api: TestClient, key: str, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version, vectors = searchable(api, runtime, sessions, blobs)
    at = version_id(version)
    with Client("http://testserver", key, transport=Impatient(api)) as client:
        like = client.search(at, like_index=2, limit=3)
        assert [each.index for each in like.items] == expected(vectors, vectors[2])[1:4]
        with later(lambda: work(runtime)):
            near = client.search(at, image=FILES[2], limit=1)
        (first,) = near.items
        assert (first.index, first.custom_id, near.exact) == (2, f"2-{FILES[2].name}", True)
        assert near.query_job is not None
        with later(lambda: work(runtime)):
            found = client.search(at, "a cyan ring", template="a photo of a {}", limit=2)
        assert len(found.items) == 2


class Impatient(httpx.BaseTransport):
    """To the API of a test, of which no search waits."""

    def __init__(self, api: TestClient) -> None:
        self.api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {**request.headers, **(AT_ONCE if request.url.path.endswith("/search") else {})}
        answer = self.api.request(request.method, str(request.url), content=request.read(), headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def test_a_picture_finds_itself_first_and_an_item_what_is_like_it(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version, vectors = searchable(api, runtime, sessions, blobs)
    wire_id = image_id(scalar(sessions, "SELECT image_id FROM image_set_items WHERE index = 2"))
    with later(lambda: work(runtime)):
        answer = search(api, version, {"image_id": wire_id, "limit": 2})
    assert found(answer) == expected(vectors, vectors[2], 2)
    first = answer.json()["items"][0]
    assert (first["index"], first["image_id"]) == (2, wire_id)
    assert first["cosine"] == pytest.approx(1, abs=2e-3)
    jobs = scalar(sessions, "SELECT count(*) FROM jobs")
    like = search(api, version, {"like_index": 2})
    assert found(like) == expected(vectors, vectors[2])[1:]
    assert like.json()["query_job"] is None
    assert scalar(sessions, "SELECT count(*) FROM jobs") == jobs


def test_a_job_is_indexed_again_without_storing_anything_twice_and_one_without_tables_is_refused(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    version = sealed(sessions, blobs, FILES)
    job = parse_job_id(submit(api, version).json()["id"])
    with pytest.raises(NothingToSummariseError):
        index_job(sessions, blobs, read(sessions, job))
    assert_problem(search(api, version, {"like_index": 0}), 409, "not-indexed")
    work(runtime)
    steps: list[int] = []
    for _ in range(2):
        assert index_job(sessions, blobs, read(sessions, job), lambda: steps.append(1)) == len(FILES)
    assert steps
    assert scalar(sessions, "SELECT count(*) FROM set_vectors") == len(FILES)


def test_a_query_that_takes_long_is_answered_with_its_job_to_go_on_with(
    api: TestClient, sessions: Sessions
) -> None:
    stored, [vector] = drawn(PICTURES), drawn(1, seed=1)
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, stored, DEMO_MODEL)
    waits = search(api, version, {"text": "a ring"}, **AT_ONCE)
    assert waits.status_code == 202
    job = waits.json()
    assert waits.headers["Location"] == job["links"]["self"]
    assert int(waits.headers["Retry-After"]) > 0
    body = {"query_job": job["id"], "limit": 5}
    assert search(api, version, body, **AT_ONCE).json()["id"] == job["id"]
    with later(lambda: finish_query(sessions, vector)):
        answer = search(api, version, body, Prefer="wait=20")
    assert found(answer) == expected(stored, vector, 5)
    assert answer.headers["Preference-Applied"] == "wait=20"
    filtered = search(api, version, body | {"true_label": "a heart", "split": "test"})
    ordered = expected(stored, vector, PICTURES)
    assert found(filtered) == [index for index in ordered if index % 4 == 2 and not index % 10][:5]
    assert {item["true_label"] for item in filtered.json()["items"]} == {KINDS[2]}
    least = answer.json()["items"][2]["cosine"] - 1e-6
    assert found(search(api, version, body | {"min_cosine": least})) == expected(stored, vector, 3)
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_a_query_that_fails_says_why(api: TestClient, sessions: Sessions) -> None:
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, drawn(PICTURES), DEMO_MODEL)
    first = search(api, version, {"text": "a ring"}, **AT_ONCE).json()
    finish_query(sessions, None)
    problem = assert_problem(search(api, version, {"query_job": first["id"]}), 422, "query-failed")
    assert "The file ends early." in problem["detail"]
    second = search(api, version, {"text": "a ring"}, **AT_ONCE).json()
    api.post(second["links"]["cancel"])
    problem = assert_problem(search(api, version, {"query_job": second["id"]}), 422, "query-failed")
    assert "cancelled" in problem["detail"]
    api.delete(second["links"]["self"])
    assert_problem(search(api, version, {"query_job": second["id"]}), 410, "job-deleted")


def test_vectors_of_other_weights_are_not_compared(api: TestClient, sessions: Sessions) -> None:
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, drawn(PICTURES), DEMO_MODEL)
    job = search(api, version, {"text": "a ring"}, **AT_ONCE).json()
    finish_query(sessions, drawn(1)[0])
    change(sessions, "UPDATE set_indexes SET weights_sha256 = 'other'")
    problem = assert_problem(search(api, version, {"query_job": job["id"]}), 409, "not-indexed")
    assert "other weights" in problem["detail"]


def test_a_version_is_searched_by_the_models_it_was_indexed_by(api: TestClient, sessions: Sessions) -> None:
    version = made_version(sessions, PICTURES)
    assert_problem(search(api, version, {"text": "a ring"}), 409, "not-indexed")
    stored = drawn(PICTURES)
    indexed(sessions, version, stored, DEMO_MODEL)
    problem = assert_problem(search(api, version, {"text": "a", "model": "other"}), 422, "wrong-model")
    assert problem["errors"][0]["pointer"] == "/model"
    assert DEMO_MODEL in problem["detail"]
    indexed(sessions, version, stored[::-1], "other")
    assert_problem(search(api, version, {"like_index": 0}), 422, "wrong-model")
    assert found(search(api, version, {"like_index": 0, "model": "other"})) == [
        index for index in expected(stored[::-1], stored[-1], 21) if index
    ]
    other = job_id(submit_texts(sessions, model="other"))
    body = {"query_job": other, "model": DEMO_MODEL}
    assert search(api, version, {"query_job": other}, **AT_ONCE).status_code == 202
    change(sessions, "DELETE FROM work")
    change(sessions, "UPDATE jobs SET state = 'cancelled', dropped = total, ended_at = now()")
    assert_problem(search(api, version, body), 422, "wrong-model")


def test_what_is_no_search_is_refused_before_anything_is_embedded(
    api: TestClient, sessions: Sessions
) -> None:
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, drawn(PICTURES - 1), DEMO_MODEL)
    for body in (
        {},
        {"text": "a", "like_index": 0},
        {"text": "a", "image_id": "img_1"},
        {"like_index": 0, "template": "{}"},
        {"text": "a", "template": "none"},
        {"text": None, "like_index": 0},
        {"text": "a", "limit": 201},
        {"text": "a", "min_cosine": 2},
        {"text": "a", "filter": "b"},
    ):
        assert_problem(search(api, version, body), 422, "invalid-request")
    assert_problem(search(api, version, {"like_index": PICTURES - 1}), 422, "no-vector")
    for unknown in ("img_1", image_id(uuid.uuid4())):
        problem = assert_problem(search(api, version, {"image_id": unknown}), 422, "unknown-image")
        assert problem["errors"][0]["pointer"] == "/image_id"
    for unknown in ("job_1", job_id(uuid.uuid4())):
        assert_problem(search(api, version, {"query_job": unknown}), 422, "unknown-job")
    assert_problem(search(api, uuid.uuid4(), {"like_index": 0}), 404, "not-found")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    several = job_id(submit_texts(sessions, 2))
    problem = assert_problem(search(api, version, {"query_job": several}), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/query_job"
    of_one = made_version(sessions, 1)
    asked = {"type": "embedding", "model": DEMO_MODEL, "input": {"image_set_version": version_id(of_one)}}
    over_set = api.post("/v1/jobs", json=asked).json()["id"]
    assert_problem(search(api, version, {"query_job": over_set}), 422, "invalid-request")


def test_nobody_searches_or_asks_with_what_is_not_theirs(api: TestClient, sessions: Sessions) -> None:
    mine, theirs = made_version(sessions, PICTURES), made_version(sessions, PICTURES, tenant=OTHERS)
    for version in (mine, theirs):
        indexed(sessions, version, drawn(PICTURES), DEMO_MODEL)
    their_job = job_id(submit_texts(sessions, tenant=OTHERS))
    picture = scalar(sessions, "SELECT id FROM images WHERE tenant = :tenant", tenant=OTHERS)
    their_key = bearer(sessions, tenant=OTHERS)
    refused: list[tuple[uuid.UUID, dict[str, Any], int, str]] = [
        (theirs, {"like_index": 0}, 404, "not-found"),
        (theirs, {"text": "a"}, 404, "not-found"),
        (theirs, {"query_job": their_job}, 404, "not-found"),
        (mine, {"query_job": their_job}, 422, "unknown-job"),
        (mine, {"image_id": image_id(picture)}, 422, "unknown-image"),
    ]
    for version, body, status, code in refused:
        assert_problem(search(api, version, body), status, code)
    assert search(api, theirs, {"like_index": 0}, **their_key).status_code == 200
    assert search(api, theirs, {"query_job": their_job}, **their_key, **AT_ONCE).status_code == 202
    with sessions.begin() as session:
        set_id = scalar(sessions, "SELECT set_id FROM image_set_versions WHERE id = :id", id=mine)
        image_sets.delete_set(session, TENANT, set_id)
    assert_problem(search(api, mine, {"like_index": 0}), 404, "not-found")


def test_to_embed_takes_a_key_that_may_submit_and_to_search_one_that_may_read(
    api: TestClient, sessions: Sessions
) -> None:
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, drawn(PICTURES), DEMO_MODEL)
    reader, submitter = bearer(sessions, Scope.READ), bearer(sessions, Scope.SUBMIT)
    assert search(api, version, {"like_index": 0}, **reader).status_code == 200
    problem = assert_problem(search(api, version, {"text": "a"}, **reader), 403, "insufficient-scope")
    assert "`submit`" in problem["detail"]
    assert_problem(search(api, version, {"like_index": 0}, **submitter), 403, "insufficient-scope")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0


def test_a_query_counts_as_any_job_does(api: TestClient, sessions: Sessions) -> None:
    version = made_version(sessions, PICTURES)
    indexed(sessions, version, drawn(PICTURES), DEMO_MODEL)
    job = search(api, version, {"text": "a ring"}, **AT_ONCE).json()
    stored = read(sessions, parse_job_id(job["id"]))
    assert stored.cost > 0
    assert stored.key_id == scalar(sessions, "SELECT id FROM api_keys")
    [listed] = api.get("/v1/jobs").json()["items"]
    assert listed["id"] == job["id"]
