"""Dry runs: what a job would come to, refused as it would be, and nothing of it kept."""

import base64
import json
import uuid
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs import workers
from jobs.blobs import BlobStore
from models.types import Priority
from models.worker import Worker
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, scalar, submit_texts

Sessions = sessionmaker[Session]
TEXTS: dict[str, Any] = {"type": "embedding", "input": {"texts": ["a ring", "a heart"]}}
LENS: dict[str, Any] = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}
STORED = ("jobs", "work", "images", "flows", "queues", "idempotency_keys")


def dry(api: TestClient, body: dict[str, Any], **headers: str) -> Any:
    return api.post("/v1/jobs", params={"dry_run": True}, json=body, headers=headers)


def stored(sessions: Sessions) -> list[int]:
    return [scalar(sessions, f"SELECT count(*) FROM {table}") for table in STORED]  # noqa: S608 - ours


def test_a_dry_run_tells_what_a_job_would_come_to_and_keeps_nothing(
    api: TestClient, sessions: Sessions, blobs: BlobStore, picture: bytes
) -> None:
    told = dry(api, TEXTS, **{"Idempotency-Key": "order 1"})
    assert told.status_code == 200
    found = told.json()
    assert (found["items"], found["priority"], found["unit_items"]) == (2, "interactive", 1)
    assert (found["seconds"], found["dtype"], found["workers_online"]) == (None, None, 0)
    assert found["gflop"] > 0
    pictures = LENS | {"input": {"images": [{"data": base64.b64encode(picture).decode()}] * 3}}
    lens = dry(api, pictures).json()
    maps = dry(api, pictures | {"options": {"outputs": ["patch"]}}).json()
    assert maps["result_bytes"] > lens["result_bytes"] > 0
    sent = api.post(
        "/v1/jobs",
        params={"dry_run": True},
        data={"job": json.dumps(LENS)},
        files=[("images", ("a.jpg", picture, "image/jpeg"))] * 3,
    )
    assert sent.json() == lens
    assert stored(sessions) == [0] * len(STORED)
    assert not any(path.suffix == "" and len(path.name) == 64 for path in blobs.folder.rglob("*"))
    job = api.post("/v1/jobs", json=TEXTS).json()
    assert found["gflop"] == round(scalar(sessions, "SELECT cost FROM jobs"), 3)
    assert job["priority"] == found["priority"]


def test_a_dry_run_knows_the_workers_and_what_waits_before_it(api: TestClient, sessions: Sessions) -> None:
    for _ in range(2):
        worker_id = uuid.uuid4()
        with sessions.begin() as session:
            workers.register(session, worker_id, model=MODEL, device="cpu", dtype="float32")
            workers.report_online(session, worker_id, device="cpu", dtype="float32", revision=None)
            session.get_one(Worker, worker_id).seconds_per_gflop = 0.5
    submit_texts(sessions, 5)
    found = dry(api, TEXTS).json()
    assert (found["workers_online"], found["dtype"], found["items_before"]) == (2, "float32", 5)
    assert abs(found["seconds"] - found["gflop"] * 0.25) <= 0.001
    # behind all of its own flow, and as far of the others' as their weights say
    bulk = submit_texts(sessions, 1_000, priority=Priority.BULK, tenant="another")
    assert dry(api, TEXTS).json()["items_before"] <= 5 + 128
    assert scalar(sessions, "SELECT total FROM jobs WHERE id = :id", id=bulk) == 1_000


def test_a_dry_run_is_refused_as_the_submit_would_be(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    small = settings.model_copy(update={"max_tenant_items": 3})
    unknown = {"images": [{"image_id": "img_" + "0" * 32}]}
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        for body, status, code in (
            (TEXTS | {"input": {"texts": ["a"] * 4}}, 422, "over-quota"),
            (TEXTS | {"input": {"texts": []}}, 422, "no-input"),
            (TEXTS | {"model": "nobody/knows"}, 422, "unknown-model"),
            (LENS | {"input": unknown}, 422, "unknown-image"),
            (LENS | {"input": unknown, "labels": []}, 422, "no-labels"),
            (TEXTS | {"tags": {"": ""}}, 422, "invalid-request"),
        ):
            assert_problem(dry(api, body), status, code)
            assert_problem(api.post("/v1/jobs", json=body), status, code)
        assert_problem(dry(api, TEXTS, **{"Idempotency-Key": ""}), 422, "invalid-idempotency-key")
        submit_texts(sessions, 2)
        refused = dry(api, TEXTS)
        assert_problem(refused, 429, "quota-exceeded")
        assert "Retry-After" in refused.headers
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
