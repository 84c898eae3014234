"""One submit in the logs of all processes: as JSON, by the ids of its request and its job."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.schemas import ids
from api.settings import ApiSettings
from engine.catalog import Catalog
from jobs import logs
from jobs.acting import Actor
from jobs.admission import Quota
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.leases import Appetite
from tests.faults import do, let_leases_run_out
from tests.ledger import claim, complete, scalar
from tests.packed import zip_of
from tests.runtimes import FailingEngine, runtime_of
from tests.scenes import tiny_png
from worker import time_slice
from worker.analyst import run_slice
from worker.analyst_runtime import Analyst
from worker.heartbeat import Heartbeat

TEXTS = {"type": "embedding", "input": {"texts": ["one", "two"]}}


@pytest.fixture
def talking(settings: ApiSettings, key: str) -> Iterator[TestClient]:
    """An API that logs JSON."""
    app = create_app(settings.model_copy(update={"log_format": "json"}))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as api:
        yield api
    logs.configure()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def job_id_of(answer: Any) -> str:
    assert answer.status_code == 202, answer.text
    return str(uuid.UUID(answer.json()["id"].removeprefix("job_")))


def test_a_submit_is_found_by_both_ids_in_the_log_of_the_api_and_of_the_worker(
    talking: TestClient,
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    heartbeat: Heartbeat,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = talking.post("/v1/jobs", json=TEXTS)
    job_id, request_id = job_id_of(answer), answer.headers["X-Request-Id"]
    (submitted,) = [line for line in lines(capsys) if line["event"] == "job.submitted"]
    assert (submitted["job_id"], submitted["request_id"]) == (job_id, request_id)
    engine = FailingEngine(RuntimeError("a fault"), times=3)
    time_slice.run_slice(runtime_of(engine, sessions, blobs, heartbeat))
    told = [line for line in lines(capsys) if line["event"].startswith(("claim.", "item.", "batch."))]
    assert {"claim.begun", "claim.completed"} <= {line["event"] for line in told}
    for line in told:
        assert (line["job_ids"], line["request_ids"]) == ([job_id], [request_id])
    # as they are printed: as structures they would show the locals of every frame
    tracebacks = [line["exception"] for line in told if "exception" in line]
    assert tracebacks
    assert all(traceback.endswith("RuntimeError: a fault") for traceback in tracebacks)


def test_an_ingestion_is_found_by_both_ids_in_the_log_of_the_api_and_of_the_analyst(
    talking: TestClient, analyst: Analyst, set_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = {"archive": ("a.zip", zip_of({"a.png": tiny_png(1)}))}
    answer = talking.post(f"/v1/image-sets/{ids.set_id(set_id)}/ingestions", files=archive)
    expected = job_id_of(answer), answer.headers["X-Request-Id"]
    (submitted,) = [line for line in lines(capsys) if line["event"] == "job.submitted"]
    assert (submitted["job_id"], submitted["request_id"]) == expected
    assert not run_slice(analyst)
    told = [line for line in lines(capsys) if line["event"].startswith(("claim.", "ingest."))]
    assert {"claim.begun", "ingest.added", "claim.completed"} <= {line["event"] for line in told}
    assert {(line["job_id"], line["request_id"]) for line in told} == {expected}


def test_a_unit_that_is_tried_again_and_a_job_that_is_have_the_ids_of_who_asked_for_them(
    talking: TestClient,
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    heartbeat: Heartbeat,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime = runtime_of(FailingEngine(), sessions, blobs, heartbeat)

    def begun() -> list[tuple[str, ...]]:
        """The ids of jobs and requests in each batch that the worker begins now."""
        time_slice.run_slice(runtime)
        told = [line for line in lines(capsys) if line["event"] == "claim.begun"]
        return [(*line["job_ids"], *line["request_ids"]) for line in told]

    answer = talking.post("/v1/jobs", json=TEXTS)
    first = job_id_of(answer), answer.headers["X-Request-Id"]
    assert claim(sessions) is not None
    assert let_leases_run_out(sessions) == 1
    assert begun() == [first]
    answer = talking.post(f"/v1/jobs/job_{uuid.UUID(first[0]).hex}/retry", json={"scope": "all"})
    assert begun() == [(job_id_of(answer), answer.headers["X-Request-Id"])]


def test_of_many_jobs_that_are_tried_again_at_once_each_has_the_request_that_it_came_from(
    talking: TestClient, sessions: sessionmaker[Session], capsys: pytest.CaptureFixture[str]
) -> None:
    request_id = talking.post("/v1/jobs", json=TEXTS).headers["X-Request-Id"]
    held = claim(sessions, appetite=Appetite(items=2))
    assert held is not None
    assert complete(sessions, held, failing=(0,))
    wish = {"action": "retry", "filter": {"state": ["partial"]}, "expected_count": 1}
    action = talking.post("/v1/job-actions", json=wish).raise_for_status().json()
    capsys.readouterr()
    # a broker that is nowhere costs nothing
    actor = Actor(sessions, Catalog(), Quota(), lambda: 0, Inviter("redis://127.0.0.1:1/0"))
    assert do(sessions, actor) == 1
    (submitted,) = [line for line in lines(capsys) if line["event"] == "job.submitted"]
    retried = scalar(sessions, "SELECT id || ' ' || request_id FROM jobs WHERE retry_of IS NOT NULL")
    assert f"{submitted['job_id']} {submitted['request_id']}" == retried
    assert submitted["request_id"] == request_id
    assert uuid.UUID(submitted["action_id"]).hex in action["id"]
