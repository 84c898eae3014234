"""The request that a job came from: sent again, it is the same one."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.routes import job_requests
from api.schemas.ids import endpoint_id
from jobs import recovery
from models.types import Priority
from tests.deliveries import add_endpoint
from tests.faults import change, do, judge, report_crash
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import claim, submit_texts

Sessions = sessionmaker[Session]
KEY = {"Idempotency-Key": "order 1"}


def asked(api: TestClient, job: dict[str, Any]) -> Any:
    return api.get(job["links"]["request"]).raise_for_status().json()


@pytest.mark.parametrize(
    "body",
    [
        {"type": "embedding", "input": {"texts": ["a ring", "a heart"]}},
        {"type": "embedding", "input": {"texts": ["a"] * 65}, "options": {"normalize": False}},
        {
            "type": "embedding",
            "input": {"texts": ["a"]},
            "priority": "bulk",
            "start_within_s": 60,
            "run_timeout_s": 70,
            "result_ttl_s": 80,
            "tags": {"set": "A"},
        },
        {
            "type": "logit_lens",
            "labels": [
                "a ring",
                {"name": "heart", "prompts": ["a heart", "hearts"]},
                {"name": "redness", "positive": "red", "negative": ["blue", "green"]},
            ],
            "options": {
                "outputs": ["patch"],
                "patch_layers": {"every": 2},
                "softmax": True,
            },
        },
    ],
)
def test_a_request_sent_again_is_the_same_job(api: TestClient, picture: bytes, body: dict[str, Any]) -> None:
    if body["type"] == "logit_lens":
        data = base64.b64encode(picture).decode()
        body = body | {"input": {"images": [{"data": data, "custom_id": "a.jpg"}, {"data": data}]}}
    job = api.post("/v1/jobs", json=body, headers=KEY).json()
    again = asked(api, job)
    assert ("priority" in again, again["model"]) == ("priority" in body, job["model"])
    assert set(body) <= set(again)
    answer = api.post("/v1/jobs", json=again, headers=KEY)
    assert (answer.json()["id"], answer.headers.get("Idempotency-Replayed")) == (job["id"], "true")
    other = api.post("/v1/jobs", json=again).json()
    assert asked(api, other) == again


def test_a_request_of_many_units_is_told_a_few_at_a_time(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_requests, "UNITS_AT_ONCE", 2)
    job_id = submit_texts(sessions, 50)
    job = api.get(f"/v1/jobs/job_{job_id.hex}").json()
    assert asked(api, job)["input"] == {"texts": [f"text {number}" for number in range(50)]}


def test_items_stand_in_their_order_also_when_a_unit_was_parted(api: TestClient, sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 200, priority=Priority.BULK)
    assert claim(sessions) is not None
    report_crash(sessions)
    judge(sessions)
    assert do(sessions, recovery.judge_struck) == 1
    job = api.get(f"/v1/jobs/job_{job_id.hex}").json()
    assert asked(api, job)["input"] == {"texts": [f"text {number}" for number in range(200)]}


def test_a_rescore_names_its_source(api: TestClient, sessions: Sessions) -> None:
    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a"]}}).json()
    options = (
        '{"template": "{}", "softmax": false, "uncalibrated": true, "from_job": "job_1", "labels": ["a"]}'
    )
    change(sessions, "UPDATE jobs SET type = 'rescore', options = CAST(:options AS jsonb)", options=options)
    assert asked(api, job) == {
        "type": "rescore",
        "model": job["model"],
        "labels": ["a"],
        "input": {"from_job": "job_1"},
        "options": {"template": "{}", "softmax": False, "uncalibrated": True},
    }


def test_a_request_that_is_not_there(api: TestClient) -> None:
    assert_problem(api.get("/v1/jobs/job_" + "0" * 32 + "/request"), 404, "not-found")
    job = api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a"]}}).json()
    api.post(job["links"]["cancel"])
    api.delete(job["links"]["self"])
    assert_problem(api.get(job["links"]["request"]), 410, "job-deleted")


def test_a_request_tells_where_the_end_of_its_job_is_told(api: TestClient, sessions: Sessions) -> None:
    webhook = {"endpoint_id": endpoint_id(add_endpoint(sessions))}
    body = {"type": "embedding", "input": {"texts": ["a ring"]}, "webhook": webhook}
    job = api.post("/v1/jobs", json=body, headers=KEY).json()
    assert asked(api, job)["webhook"] == webhook
    assert api.post("/v1/jobs", json=asked(api, job), headers=KEY).json()["id"] == job["id"]
