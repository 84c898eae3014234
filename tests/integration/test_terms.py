"""What a job may ask for beside its work: its priority, its deadlines, and how long its results are kept."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.schemas.ids import parse_job_id
from jobs import deadlines, retention
from jobs.blobs import BlobStore
from jobs.leases import Appetite
from models.types import Priority
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import claim, complete, read, scalar

Sessions = sessionmaker[Session]
KEY = {"Idempotency-Key": "order 1"}
TERMS: dict[str, Any] = {"start_within_s": 600, "run_timeout_s": 3_600, "result_ttl_s": 604_800}
UNSAID: dict[str, Any] = dict.fromkeys(TERMS)
MONTH = 30 * 86_400


def submit(api: TestClient, count: int = 1, headers: dict[str, str] | None = None, **beside: Any) -> Any:
    body = {"type": "embedding", "input": {"texts": [f"text {number}" for number in range(count)]}}
    return api.post("/v1/jobs", json=body | beside, headers=headers)


def finish(sessions: Sessions, items: int = 1, **how: Any) -> None:
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert complete(sessions, held, **how)


def execute(sessions: Sessions, query: str) -> None:
    with sessions.begin() as session:
        session.execute(text(query))


@pytest.mark.parametrize(
    ("count", "asked", "resolved"),
    [
        (1, {}, "interactive"),
        (64, {}, "interactive"),
        (65, {}, "bulk"),
        (1, {"priority": "bulk"}, "bulk"),
        (64, {"priority": "interactive"}, "interactive"),
        (1, {"priority": None}, "interactive"),
    ],
)
def test_a_job_is_as_urgent_as_it_says_or_as_its_size_suggests(
    api: TestClient, sessions: Sessions, count: int, asked: dict[str, Any], resolved: str
) -> None:
    job = submit(api, count, **asked)
    assert (job.status_code, job.json()["priority"]) == (202, resolved)
    assert scalar(sessions, "SELECT priority FROM flows") == resolved
    # somebody waits for the one: its items go out one by one
    assert (scalar(sessions, "SELECT max(items) FROM work") == 1) is (resolved == "interactive" or count == 1)


def test_a_large_job_cannot_be_interactive(api: TestClient, sessions: Sessions) -> None:
    problem = assert_problem(submit(api, 65, priority="interactive"), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == ["/priority"]
    for table in ("jobs", "flows"):
        assert scalar(sessions, f"SELECT count(*) FROM {table}") == 0  # noqa: S608 - names of ours


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "60", 10**30, 10**18, [], {}])
def test_a_time_that_is_no_whole_number_of_seconds_is_refused(api: TestClient, name: str, value: Any) -> None:
    problem = assert_problem(submit(api, **{name: value}), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [f"/{name}"]


def test_a_whole_number_is_one_however_it_is_written(api: TestClient) -> None:
    # to JSON 60.0 is an integer
    assert submit(api, start_within_s=60.0, run_timeout_s=1e3).status_code == 202


@pytest.mark.parametrize("priority", ["", "Bulk", "urgent", 1, True, ["bulk"], "bulk\x00"])
def test_another_priority_is_refused(api: TestClient, priority: Any) -> None:
    problem = assert_problem(submit(api, priority=priority), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == ["/priority"]


def test_the_longest_times_are_taken(api: TestClient, sessions: Sessions) -> None:
    longest: dict[str, Any] = {
        "start_within_s": MONTH,
        "run_timeout_s": MONTH,
        "result_ttl_s": 10 * 366 * 86_400,
    }
    for terms in (longest, UNSAID):
        assert submit(api, **terms).status_code == 202
        finish(sessions)
    for name, value in longest.items():
        assert_problem(submit(api, **{name: value + 1}), 422, "invalid-request")


def test_times_count_from_when_the_job_is_stored_begun_and_ended(api: TestClient, sessions: Sessions) -> None:
    shown = submit(api, **TERMS).json()
    assert shown["expires_at"] is None
    job = read(sessions, parse_job_id(shown["id"]))
    assert job.start_by == job.created_at + timedelta(seconds=600)
    finish(sessions)
    shown = api.get(shown["links"]["self"]).json()
    job = read(sessions, parse_job_id(shown["id"]))
    assert job.ended_at is not None
    assert job.started_at is not None
    assert job.run_until == job.started_at + timedelta(seconds=3_600)
    assert job.expires_at == job.ended_at + timedelta(seconds=604_800)
    assert shown["expires_at"].startswith(f"{job.expires_at:%Y-%m-%dT%H:%M:%S}")


@pytest.mark.parametrize("beside", [{"priority": "bulk"}, *({name: 60} for name in TERMS)])
def test_a_key_stands_for_the_priority_and_the_times_too(api: TestClient, beside: dict[str, Any]) -> None:
    first = submit(api, headers=KEY).json()["id"]
    said = submit(api, headers=KEY, priority="interactive", **UNSAID)
    assert (said.status_code, said.json()["id"]) == (202, first), "what is so by default may be said"
    assert_problem(submit(api, headers=KEY, **beside), 422, "idempotency-key-reused")
    other = {"Idempotency-Key": "order 2"}
    asked = submit(api, headers=other, **beside).json()["id"]
    assert submit(api, headers=other, **beside).json()["id"] == asked


def test_a_job_that_nobody_began_in_time_says_so(api: TestClient, sessions: Sessions) -> None:
    link = submit(api, 2, start_within_s=1).json()["links"]["self"]
    ended = api.get(link, headers={"Prefer": "wait=20"}).json()
    assert (ended["state"], ended["progress"]["dropped"], ended["error"]["code"]) == (
        "expired",
        2,
        "start-deadline",
    )


def test_a_job_whose_time_was_over_says_so_and_keeps_what_was_done(
    api: TestClient, sessions: Sessions
) -> None:
    job = submit(api, 3, run_timeout_s=1).json()
    held = claim(sessions)
    assert held is not None
    # the maintenance of the API drops the rest
    until_dropped = {"Prefer": "wait=20", "If-None-Match": api.get(job["links"]["self"]).headers["ETag"]}
    dropped = api.get(job["links"]["self"], headers=until_dropped).json()
    assert (dropped["state"], dropped["progress"]["dropped"], dropped["error"]) == ("running", 2, None)
    assert complete(sessions, held)
    ended = api.get(job["links"]["self"]).json()
    assert (ended["state"], ended["error"]["code"], ended["error"]["retryable"]) == (
        "partial",
        "run-timeout",
        True,
    )
    assert len(api.get(job["links"]["results"]).json()["items"]) == 1


def test_a_partial_job_whose_time_was_not_over_has_no_error_of_its_own(
    api: TestClient, sessions: Sessions
) -> None:
    link = submit(api, 2, run_timeout_s=600).json()["links"]["self"]
    finish(sessions, 2, failing=[0])
    with sessions.begin() as session:
        assert deadlines.stop_overdue(session) == 0
    ended = api.get(link).json()
    assert (ended["state"], ended["error"]) == ("partial", None)


def test_results_are_gone_once_they_expired_and_the_job_is_not(
    api: TestClient, sessions: Sessions, blobs: BlobStore
) -> None:
    job = submit(api, 2, result_ttl_s=600, priority=Priority.INTERACTIVE).json()
    finish(sessions, 2)
    items = f"{job['links']['self']}/items/0"
    paths = [job["links"]["results"], items]
    paths += [f"{items}/{name}" for name in ("scores", "heatmap.png", "overlay.png", "thumbnail.jpg")]
    assert [api.get(path).status_code for path in paths[:2]] == [200, 200]
    shown = api.get(job["links"]["self"]).json()
    # over, and not yet removed: they go in slices, of which nobody sees half
    execute(sessions, "UPDATE jobs SET expires_at = now() - interval '1 second'")
    for path in paths:
        assert_problem(api.get(path), 410, "results-expired")
    for _ in range(3):
        with sessions.begin() as session:
            retention.expire_results(session, blobs)
    assert scalar(sessions, "SELECT count(*) FROM results") == 0
    assert scalar(sessions, "SELECT results_removed_at FROM jobs") is not None
    for path in paths:
        assert_problem(api.get(path), 410, "results-expired")
    again = api.get(job["links"]["self"])
    assert again.status_code == 200
    assert again.json()["progress"] == shown["progress"]
    assert_problem(api.get(job["links"]["self"] + "/items/2"), 410, "results-expired")
