"""Other labels over kept embeddings, from submit to result: what a lens of them would say, and no pass."""

import base64
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.keys import create_key
from jobs.pricing import READ_GFLOP
from tests.conftest import SAMPLES
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, assert_settled, claim, scalar
from tests.runtimes import runtime_of
from worker import time_slice
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime, open_decoders

Sessions = sessionmaker[Session]

FILES = [SAMPLES / f"scene-0000{number}.jpg" for number in range(3)]
TORN = base64.b64encode(FILES[0].read_bytes()[:2_000]).decode()
IMAGES: list[dict[str, Any]] = [
    {"data": base64.b64encode(FILES[0].read_bytes()).decode(), "custom_id": "first"},
    {"data": TORN, "custom_id": "torn"},
    *({"data": base64.b64encode(file.read_bytes()).decode()} for file in FILES[1:]),
]
SUCCEEDED = [0, 2, 3]
KEEPING = {"outputs": ["pooled", "embeddings"]}
LABELS: list[Any] = [
    "a pink arrow",
    {"name": "ring", "prompts": ["a cyan ring", "a red ring"]},
    {"name": "rather a ring", "positive": "a ring", "negative": "a square"},
]
ASKED = {"template": "a scene with {}", "softmax": True, "uncalibrated": True}
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat)
    return replace(runtime, provenance=dict(demo_engine.provenance))


def work(runtime: Runtime) -> None:
    """Run what waits, with decoders of its own."""
    with open_decoders(runtime.settings, runtime.engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))


def lens(api: TestClient, options: dict[str, Any], **more: Any) -> Any:
    """A lens of four pictures, one of them torn."""
    body = {"type": "logit_lens", "input": {"images": IMAGES}, "labels": ["a cyan ring"], "options": options}
    answer = api.post("/v1/jobs", json=body | more)
    assert answer.status_code == 202, answer.text
    return answer.json()


def finished(api: TestClient, runtime: Runtime, options: dict[str, Any], **more: Any) -> str:
    """The id of a lens that has ended."""
    job = lens(api, options, **more)
    work(runtime)
    assert api.get(job["links"]["self"]).json()["state"] == "partial"
    return str(job["id"])


def rescore(api: TestClient, source: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"type": "rescore", "input": {"from_job": source}, "labels": LABELS}
    return api.post("/v1/jobs", json=body | more, headers=headers)


def results(api: TestClient, job: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get(job["links"]["results"]).json()["items"]
    return items


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal but for rounding, whatever it is made of."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert_same(ours[name], value)
    elif isinstance(theirs, float) or (isinstance(theirs, list) and not isinstance(theirs[0], str)):
        # null, of a direction's logit, is NaN here, and equal to itself
        found, wanted = (np.array(numbers, dtype=np.float64) for numbers in (ours, theirs))
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        assert ours == theirs


def test_a_rescore_says_what_a_lens_with_its_labels_would_and_decodes_nothing(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    other = lens(api, ASKED, labels=LABELS)
    work(runtime)
    answer = rescore(api, source, options=ASKED)
    assert answer.status_code == 202, answer.text
    # no decoders: whoever asked for one would fail
    time_slice.run_slice(runtime)
    job = api.get(answer.json()["links"]["self"]).json()
    assert (job["type"], job["model"], job["state"], job["progress"]["total"]) == (
        "rescore",
        MODEL,
        "succeeded",
        len(SUCCEEDED),
    )
    theirs = [item for item in results(api, other) if item["state"] == "succeeded"]
    ours = results(api, job)
    assert [item["index"] for item in ours] == [0, 1, 2]
    assert [item["source_index"] for item in ours] == SUCCEEDED
    assert [item["custom_id"] for item in ours] == ["first", None, None]
    for mine, their in zip(ours, theirs, strict=True):
        assert_same(
            {name: value for name, value in mine.items() if name not in {"index", "source_index"}},
            {name: value for name, value in their.items() if name != "index"},
        )
    provenance = job["provenance"]
    assert provenance["from_job"] == source
    assert provenance["pixel_path"]["mode"] == "exact"
    assert provenance["embeddings"] == {
        "dtype": "float32",
        "runtime": runtime.engine.runtime,
        "device": "cpu",
    }
    assert provenance["prompts"][0] == "a scene with a pink arrow"
    assert_settled(sessions)


def test_a_large_job_is_rescored_in_units_of_many(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    single = rescore(api, source).json()
    many = rescore(api, source, priority="bulk").json()
    assert scalar(sessions, "SELECT array_agg(items ORDER BY job_id, unit) FROM work") == [1, 1, 1, 3]
    assert scalar(sessions, "SELECT count(*) FROM job_inputs WHERE image_ids <> '{}'") == len(IMAGES)
    work(runtime)
    assert_same(results(api, many)[2]["pooled"], results(api, single)[2]["pooled"])
    assert_settled(sessions)


def test_the_inline_limit_is_none_for_a_rescore_and_the_quota_is(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    settings = api.app.state.services.settings  # type: ignore[attr-defined]  # FastAPI's
    settings.max_job_items = 1
    assert rescore(api, source).status_code == 202
    settings.max_tenant_items = 2
    assert_problem(rescore(api, source), 422, "over-quota")
    assert scalar(sessions, "SELECT sum(cost) FROM jobs WHERE type = 'rescore'") >= 3 * READ_GFLOP


def test_layers_that_were_kept_are_those_that_are_scored(api: TestClient, runtime: Runtime) -> None:
    source = finished(api, runtime, KEEPING | {"layers": [2, 6]})
    job = rescore(api, source).json()
    work(runtime)
    (item, *_) = results(api, job)
    assert item["pooled"]["layers"] == [2, 6]
    assert item["top"]["settle_layer"] is None
    without = finished(api, runtime, KEEPING | {"layers": [2, 3]})
    assert "last, 6" in assert_problem(rescore(api, without), 409, "embeddings-not-kept")["detail"]


def test_what_cannot_be_rescored_is_refused_with_the_reason(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    waiting = lens(api, KEEPING)
    assert_problem(rescore(api, waiting["id"]), 409, "not-ended")
    work(runtime)
    plain = finished(api, runtime, {})
    refused = assert_problem(rescore(api, plain), 409, "embeddings-not-kept")
    assert '"outputs": ["pooled", "embeddings"]' in refused["detail"]
    embedding = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}}).json()
    assert_problem(rescore(api, embedding["id"]), 409, "embeddings-not-kept")
    assert_problem(rescore(api, waiting["id"], labels=[]), 422, "no-labels")
    assert_problem(rescore(api, waiting["id"], labels=["a", "a"]), 422, "duplicate-labels")
    other = "google/siglip-base-patch16-224"
    refused = assert_problem(rescore(api, waiting["id"], model=other), 422, "invalid-request")
    assert refused["errors"][0]["pointer"] == "/model"
    assert rescore(api, waiting["id"], model=MODEL).status_code == 202
    for odd in ({}, {"from_job": 3}, {"images": IMAGES}, {"from_job": waiting["id"], "texts": ["a"]}):
        assert_problem(rescore(api, "", input=odd), 422, "invalid-request")
    for odd in ({"layers": "all"}, {"outputs": ["patch"]}, {"pixels": "draft"}):
        assert_problem(rescore(api, waiting["id"], options=odd), 422, "invalid-request")
    nothing = lens(api, KEEPING, input={"images": [{"data": TORN}]})
    work(runtime)
    assert_problem(rescore(api, nothing["id"]), 422, "no-input")
    change(sessions, "UPDATE jobs SET expires_at = now() - interval '1 second' WHERE ended_at IS NOT NULL")
    assert_problem(rescore(api, waiting["id"]), 410, "results-expired")


def test_results_that_go_while_a_rescore_is_stored_are_no_job_of_fewer_items(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    clock = "SELECT max(clock) FROM flows WHERE priority = 'interactive'"
    before = scalar(sessions, clock)
    change(sessions, "DELETE FROM results WHERE index = 3")
    assert_problem(rescore(api, source), 410, "results-expired")
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE type = 'rescore'") == 0
    assert scalar(sessions, clock) == pytest.approx(before)


def test_another_tenants_job_is_as_unknown_as_none(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    with sessions.begin() as session:
        stranger = {"Authorization": f"Bearer {create_key(session, name='stranger', tenant='another').key}"}
    answers = [
        assert_problem(rescore(api, each, stranger), 422, "unknown-job") | {"request_id": None}
        for each in (source, f"job_{uuid.uuid4().hex}", "job_1", "no id")
    ]
    assert answers[1:] == answers[:1] * 3
    assert answers[0]["errors"][0]["pointer"] == "/input/from_job"


def test_a_rescore_sent_again_is_the_same_job_also_when_its_source_is_gone(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    source = finished(api, runtime, KEEPING)
    once = {"Idempotency-Key": "order 1"}
    first = rescore(api, source, once)
    assert first.status_code == 202
    change(sessions, "UPDATE jobs SET results_removed_at = now(), options = '{}' WHERE type = 'logit_lens'")
    again = rescore(api, source, once)
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (first.json()["id"], "true")
    for other in ({"labels": ["a ring"]}, {"options": {"softmax": True}}):
        assert_problem(rescore(api, source, once, **other), 422, "idempotency-key-reused")
    assert_problem(rescore(api, source), 410, "results-expired")


def test_embeddings_of_other_weights_or_that_are_gone_are_errors_of_their_items(
    api: TestClient, runtime: Runtime, sessions: Sessions, blobs: BlobStore
) -> None:
    source = finished(api, runtime, KEEPING)
    changed = replace(runtime, provenance=runtime.provenance | {"weights_sha256": "another"})
    job = rescore(api, source).json()
    time_slice.run_slice(changed)
    assert {item["error"]["code"] for item in results(api, job)} == {"weights-differ"}
    job = rescore(api, source).json()
    for path in blobs.folder.rglob("objects/*/*/*"):
        path.unlink()
    time_slice.run_slice(runtime)
    assert {item["error"]["code"] for item in results(api, job)} == {"embeddings-gone"}
    assert_settled(sessions)


def test_labels_that_the_model_cannot_tell_apart_fail_the_items(api: TestClient, runtime: Runtime) -> None:
    source = finished(api, runtime, KEEPING)
    job = rescore(api, source, labels=["a ring", "A RING"]).json()
    time_slice.run_slice(runtime)
    assert {item["error"]["code"] for item in results(api, job)} == {"labels-indistinct"}


def test_a_rescore_says_nothing_of_how_fast_the_model_is(api: TestClient, runtime: Runtime) -> None:
    source = finished(api, runtime, KEEPING)
    before = runtime.heartbeat.pace.seconds_per_gflop
    assert before is not None
    for _ in range(3):
        rescore(api, source)
    time_slice.run_slice(runtime)
    assert runtime.heartbeat.pace.seconds_per_gflop == before


def test_a_multipart_rescore_takes_no_pictures(api: TestClient, runtime: Runtime, sessions: Sessions) -> None:
    source = finished(api, runtime, KEEPING)
    told = f'{{"type": "rescore", "input": {{"from_job": "{source}"}}, "labels": ["a ring"]}}'
    answer = api.post("/v1/jobs", files={"job": (None, told), "images": ("a.jpg", FILES[0].read_bytes())})
    assert_problem(answer, 422, "invalid-request")
    assert api.post("/v1/jobs", files={"job": (None, told)}).status_code == 202
    held = claim(sessions)
    assert held is not None
    assert "sha256" not in held.units[0].items[0]
