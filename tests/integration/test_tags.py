"""Tags: a client's own names and values, kept with a job and part of what it asks for."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from tests.integration.test_bad_requests import assert_problem
from tests.ledger import scalar

TEXTS: dict[str, Any] = {"type": "embedding", "input": {"texts": ["a ring"]}}
KEY = {"Idempotency-Key": "order 1"}


def test_tags_come_back_with_the_job(api: TestClient, sessions: sessionmaker[Session]) -> None:
    tags = {"set": "A", "k" * 64: "v" * 256, "größe": ""}
    job = api.post("/v1/jobs", json=TEXTS | {"tags": tags}).json()
    assert job["tags"] == api.get(job["links"]["self"]).json()["tags"] == tags
    assert api.post("/v1/jobs", json=TEXTS).json()["tags"] == {}
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE key_id IN (SELECT id FROM api_keys)") == 2


def test_tags_are_part_of_what_a_key_stands_for(api: TestClient) -> None:
    first = api.post("/v1/jobs", json=TEXTS | {"tags": {"a": "1", "b": "2"}}, headers=KEY)
    again = api.post("/v1/jobs", json=TEXTS | {"tags": {"b": "2", "a": "1"}}, headers=KEY)
    assert again.json()["id"] == first.json()["id"]
    for other in ({"tags": {"a": "1"}}, {}):
        refused = api.post("/v1/jobs", json=TEXTS | other, headers=KEY)
        assert_problem(refused, 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("tags", "pointer"),
    [
        ({f"{number}": "" for number in range(17)}, "/tags"),
        ({f"{number}": 1 for number in range(100_000)}, "/tags"),
        ({"": "A"}, "/tags/"),
        ({"k" * 65: "A"}, "/tags/" + "k" * 65),
        ({"a:b": "A"}, "/tags/a:b"),
        ({"a\x00": "A"}, "/tags/a\x00"),
        ({"set": "v" * 257}, "/tags/set"),
        ({"set": "\x00"}, "/tags/set"),
        ({"set": 1}, "/tags/set"),
        ({"set": None}, "/tags/set"),
        (["set:A"], "/tags"),
    ],
)
def test_tags_that_cannot_be_kept_are_refused(api: TestClient, tags: Any, pointer: str) -> None:
    problem = assert_problem(api.post("/v1/jobs", json=TEXTS | {"tags": tags}), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
