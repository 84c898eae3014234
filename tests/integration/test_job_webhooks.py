"""Jobs that name a webhook endpoint: part of what they are, and refused when there is none."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings
from tests.ledger import scalar
from tests.receiver import Receiver
from tests.webhooks import HERE, add, submit

Sessions = sessionmaker[Session]


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"egress_allowed": ["127.0.0.1:*"]})


def test_a_job_is_another_with_another_endpoint(api: TestClient, receiver: Receiver) -> None:
    one, other = (add(api, receiver.url())["id"] for _ in range(2))
    headers = {"Idempotency-Key": "a job"}
    job = {"type": "embedding", "input": {"texts": ["a"]}, "webhook": {"endpoint_id": one}}
    first = api.post("/v1/jobs", json=job, headers=headers)
    # what became of the endpoint meanwhile is no matter of a job that was accepted
    api.patch(f"{HERE}/{one}", json={"enabled": False})
    assert api.post("/v1/jobs", json=job, headers=headers).json()["id"] == first.json()["id"]
    job["webhook"] = {"endpoint_id": other}
    assert api.post("/v1/jobs", json=job, headers=headers).json()["code"] == "idempotency-key-reused"


@pytest.mark.parametrize(
    "endpoint_id", ["", "whe_1", f"whe_{'0' * 32}", f"job_{'0' * 32}", "a\x00b", "x" * 101, 7, None]
)
def test_a_job_for_no_endpoint_is_refused_and_charges_nothing(
    endpoint_id: Any, api: TestClient, sessions: Sessions
) -> None:
    answer = submit(api, endpoint_id)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/webhook/endpoint_id"
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 0
    assert scalar(sessions, "SELECT count(*) FROM flows") == 0
