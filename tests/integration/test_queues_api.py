"""The operator's hold on the service: queues that are paused, workers that claim no more."""

import time
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from jobs import workers
from jobs.broker import Inviter
from jobs.keys import create_key
from models.types import Scope
from tests.dashboard import audited
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, TENANT, claim, submit_texts

Sessions = sessionmaker[Session]
QUEUE = f"/v1/queues/{MODEL}"


@pytest.fixture
def admin(sessions: Sessions) -> dict[str, str]:
    with sessions.begin() as session:
        made = create_key(session, name="admin", tenant="operator", scopes=[Scope.ADMIN])
    return {"Authorization": f"Bearer {made.key}"}


def queues(api: TestClient) -> dict[str, Any]:
    return {queue.pop("model"): queue for queue in api.get("/v1/queues").raise_for_status().json()["items"]}


def test_a_paused_queue_takes_jobs_and_hands_none_out(
    api: TestClient, sessions: Sessions, admin: dict[str, str]
) -> None:
    assert queues(api) == {}
    paused = api.post(f"{QUEUE}/pause", headers=admin).raise_for_status().json()
    assert paused["paused_at"] is not None
    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"] * 3}})
    assert (job.status_code, job.json()["waiting_for"]["code"]) == (202, "queue-paused")
    assert claim(sessions) is None
    again = api.post(f"{QUEUE}/pause", headers=admin).json()
    assert (again["paused_at"], again["waiting_items"]) == (paused["paused_at"], 3)
    assert queues(api)[MODEL]["paused_at"] == paused["paused_at"]
    resumed = api.post(f"{QUEUE}/resume", headers=admin).raise_for_status().json()
    assert resumed["paused_at"] is None
    assert claim(sessions) is not None
    found = queues(api)[MODEL]
    assert (found["waiting_items"], found["running_items"]) == (2, 1)
    assert found["oldest_s"] >= 0


def test_a_queue_that_goes_on_invites_its_workers(
    api: TestClient, sessions: Sessions, admin: dict[str, str], broker_url: str
) -> None:
    api.post(f"{QUEUE}/pause", headers=admin)
    submit_texts(sessions, 3)
    inviter = Inviter(broker_url)
    try:
        assert inviter.waiting(MODEL) == 0
        api.post(f"{QUEUE}/resume", headers=admin)
        until = time.monotonic() + 10
        while not inviter.waiting(MODEL):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        inviter.close()


def test_a_queue_of_a_name_without_an_owner_and_of_no_model(api: TestClient, admin: dict[str, str]) -> None:
    for verb in ("pause", "resume"):
        for name in ("nobody/knows", "nobody"):
            problem = assert_problem(
                api.post(f"/v1/queues/{name}/{verb}", headers=admin), 404, "unknown-model"
            )
            assert MODEL in problem["detail"]
    idle = api.post(f"{QUEUE}/resume", headers=admin).json()
    assert idle == {
        "model": MODEL,
        "paused_at": None,
        "waiting_items": 0,
        "running_items": 0,
        "oldest_s": None,
    }


def test_only_the_operator_pauses_and_drains(api: TestClient) -> None:
    for path in (f"{QUEUE}/pause", f"{QUEUE}/resume", f"/v1/workers/wrk_{'0' * 32}/drain"):
        assert_problem(api.post(path), 403, "insufficient-scope")


def test_a_worker_is_told_to_claim_no_more(
    api: TestClient, sessions: Sessions, admin: dict[str, str]
) -> None:
    worker_id = uuid.uuid4()
    path = f"/v1/workers/wrk_{worker_id.hex}/drain"
    assert_problem(api.post(path, headers=admin), 404, "not-found")
    assert_problem(api.post("/v1/workers/nonsense/drain", headers=admin), 404, "not-found")
    with sessions.begin() as session:
        workers.register(session, worker_id, model=MODEL, device="cpu", dtype="float32")
    assert_problem(api.post(path, headers=admin), 409, "worker-not-online")
    with sessions.begin() as session:
        workers.report_online(session, worker_id, device="cpu", dtype="float32", revision=None)
    for _ in range(2):
        assert api.post(path, headers=admin).raise_for_status().json()["state"] == "draining"
    with sessions.begin() as session:
        assert workers.report_alive(session, worker_id) == "draining"
    change(sessions, "UPDATE workers SET state = 'offline'")
    assert_problem(api.post(path, headers=admin), 409, "worker-not-online")


def test_what_a_key_does_to_everybody_is_in_the_audit(
    api: TestClient, sessions: Sessions, admin: dict[str, str]
) -> None:
    for verb in ("pause", "resume"):
        api.post(f"{QUEUE}/{verb}", headers=admin).raise_for_status()
    made = api.post("/v1/api-keys", json={"name": "second", "scopes": ["admin"]}, headers=admin)
    api.delete(f"/v1/api-keys/{made.json()['id']}", headers=admin).raise_for_status()
    wish = {"action": "delete", "filter": {"state": ["failed"]}, "expected_count": 0, "reason": "tidy"}
    acted = api.post("/v1/job-actions", json=wish).raise_for_status().json()
    mine = {api.get("/v1/api-keys", headers=admin).json()["items"][-1]["id"]}
    told = audited(sessions)
    assert [(verb, target) for _, verb, target, _, _ in told] == [
        ("queue.paused", MODEL),
        ("queue.resumed", MODEL),
        ("key.created", made.json()["id"]),
        ("key.revoked", made.json()["id"]),
        ("jobs.deleted", acted["id"]),
    ]
    assert {actor for actor, *_ in told[:4]} == mine
    assert told[4][3:] == (TENANT, "tidy")
