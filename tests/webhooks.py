"""What tests of webhooks over HTTP share: an endpoint, a job of which it is told, and its deliveries."""

import threading
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from tests.ledger import claim, complete

Sessions = sessionmaker[Session]
HERE = "/v1/webhook-endpoints"


def add(api: TestClient, url: str, **headers: str) -> Any:
    answer = api.post(HERE, json={"url": url}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def submit(api: TestClient, endpoint_id: str, **more: Any) -> Any:
    body = {"type": "embedding", "input": {"texts": ["a ring"]}, "webhook": {"endpoint_id": endpoint_id}}
    return api.post("/v1/jobs", json=body | more)


def end_job(api: TestClient, sessions: Sessions, endpoint_id: str) -> Any:
    """A job that has ended, as a poll sees it."""
    job = submit(api, endpoint_id).json()
    held = claim(sessions)
    assert held is not None
    complete(sessions, held)
    return api.get(job["links"]["self"]).json()


def deliveries(api: TestClient, endpoint: Any) -> Any:
    return api.get(f"{HERE}/{endpoint['id']}/deliveries").json()["items"]


def settled(api: TestClient, endpoint: Any, attempts: int = 1) -> Any:
    """The one delivery, once so many tries of it are noted."""
    for _ in range(1500):
        [delivery] = deliveries(api, endpoint)
        if delivery["attempts"] >= attempts:
            return delivery
        threading.Event().wait(0.02)
    raise AssertionError(delivery)
