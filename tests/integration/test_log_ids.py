"""One submit in the logs of all processes: as JSON, by the ids of its request and its job."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import logs
from jobs.blobs import BlobStore
from tests.runtimes import FailingEngine, runtime_of
from worker import time_slice
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
