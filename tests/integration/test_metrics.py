"""What the API and a worker measure, over the real ledger."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.metrics import counted
from api.settings import ApiSettings
from jobs import workers
from jobs.charts import ENDED
from jobs.maintenance import expiring, run_alone
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, TENANT, WORKER, claim, submit_texts

Sessions = sessionmaker[Session]
HERE = ("127.0.0.1", 5000)
ELSEWHERE = ("203.0.113.7", 5000)
LABELS = {"method", "route", "status", "model", "state", "spool", "turns", "le"}


@pytest.fixture
def local(settings: ApiSettings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://localhost", client=HERE) as client:
        yield client


def told(answer: Any) -> dict[str, float]:
    """Every sample, by its name and the values of its labels."""
    assert answer.status_code == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, sample
            found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def test_the_queue_its_workers_and_jobs_are_told_by_model(local: TestClient, sessions: Sessions) -> None:
    submit_texts(sessions, 3)
    with sessions.begin() as session:
        workers.register(session, WORKER, model=MODEL, device="cpu", dtype="float32")
        workers.report_online(session, WORKER, device="cpu", dtype="float32", revision=None)
    assert claim(sessions) is not None
    answer = local.get("/metrics")
    found = told(answer)
    assert found[f"lensqueue_queue_waiting_items {MODEL}"] == 2
    assert found[f"lensqueue_queue_running_items {MODEL}"] == 1
    assert 0 < found[f"lensqueue_queue_oldest_wait_seconds {MODEL}"] < 60
    assert found[f"lensqueue_workers {MODEL} online"] == 1
    assert found[f"lensqueue_open_jobs {MODEL} running"] == 1
    assert found["lensqueue_ledger_up"] == 1
    assert found["lensqueue_spool_limit_bytes bodies"] == 2**30
    assert TENANT not in answer.text
    # a moment later nothing is read again
    submit_texts(sessions, 3)
    assert told(local.get("/metrics"))[f"lensqueue_queue_waiting_items {MODEL}"] == 2


def test_recent_jobs_are_those_of_all_tenants(local: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(
            text("""
                INSERT INTO job_minutes (minute, model, tenant, submitted, failed)
                VALUES (date_trunc('minute', now()), 'm', 'a', 5, 1),
                       (date_trunc('minute', now()), 'm', 'b', 2, 1),
                       (now() - interval '11 minutes', 'm', 'a', 100, 100)
            """)
        )
    found = told(local.get("/metrics"))
    assert [found[f"lensqueue_recent_jobs m {state}"] for state in ("submitted", "failed")] == [7, 2]
    assert {f"lensqueue_recent_jobs m {state}" for state in ENDED} <= found.keys()


def test_requests_are_counted_by_their_route_as_it_is_declared(api: TestClient, local: TestClient) -> None:
    before = told(local.get("/metrics"))
    for path in ("/v1/jobs/job_1", "/v1/jobs/job_2", "/v1/nothing/here", "/admin/sign-in"):
        api.get(path)
    api.request("SECRET", "/v1/jobs")
    after = told(local.get("/metrics"))
    seen = {
        name.removeprefix("lensqueue_http_requests_total "): after[name] - before.get(name, 0)
        for name in after
        if name.startswith("lensqueue_http_requests_total") and after[name] != before.get(name)
    }
    seen.pop("GET /metrics 200")
    assert seen == {
        "GET /v1/jobs/{job_id} 404": 2,
        "GET none 404": 1,
        "GET /admin/sign-in 200": 1,
        "other /v1/jobs 405": 1,
    }
    assert after["lensqueue_http_request_duration_seconds_count GET /v1/jobs/{job_id}"] >= 2


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (ELSEWHERE, {}),
        # as a proxy on this machine passes it on
        (HERE, {"X-Forwarded-For": "203.0.113.7"}),
        (HERE, {"Host": "lens.example.org"}),
        (ELSEWHERE, {"Host": "localhost"}),
    ],
)
def test_without_a_token_nobody_from_elsewhere_reads_them(
    settings: ApiSettings, client: tuple[str, int], headers: dict[str, str]
) -> None:
    with TestClient(create_app(settings), base_url="http://localhost", client=client) as asking:
        assert_problem(asking.get("/metrics", headers=headers), 401, "unauthenticated")


def test_with_a_token_it_alone_opens_them(settings: ApiSettings, key: str) -> None:
    guarded = settings.model_copy(update={"metrics_token": "a secret"})
    with TestClient(create_app(guarded), base_url="http://localhost", client=HERE) as asking:
        for sent in ({}, {"Authorization": "Bearer another"}, {"Authorization": f"Bearer {key}"}):
            assert_problem(asking.get("/metrics", headers=sent), 401, "unauthenticated")
    with TestClient(create_app(guarded), client=ELSEWHERE) as asking:
        told(asking.get("/metrics", headers={"Authorization": "Bearer a secret"}))


def test_without_its_database_a_process_tells_the_rest(settings: ApiSettings, local: TestClient) -> None:
    nowhere = settings.database_url.rpartition("/")[0] + "/nowhere"
    assert f"lensqueue_queue_waiting_items {MODEL}" not in told(local.get("/metrics"))
    away = settings.model_copy(update={"database_url": nowhere})
    with TestClient(create_app(away), base_url="http://localhost", client=HERE) as asking:
        found = told(asking.get("/metrics"))
    assert found["lensqueue_ledger_up"] == 0
    assert not [name for name in found if name.startswith(("lensqueue_queue", "lensqueue_workers"))]
    assert found["process_resident_memory_bytes"] > 0


def test_expired_leases_are_counted(local: TestClient, sessions: Sessions) -> None:
    submit_texts(sessions)
    assert claim(sessions) is not None
    before = told(local.get("/metrics"))["lensqueue_leases_expired_total"]
    with sessions.begin() as session:
        session.execute(text("UPDATE leases SET until = now() - interval '1 second', ttl = interval '0'"))
    # the application's own loop does it too: whoever is first
    (duty,) = counted(expiring())
    while not told(local.get("/metrics"))["lensqueue_leases_expired_total"] > before:
        with sessions.begin() as session:
            run_alone(session, duty.lock, duty.run)
    assert told(local.get("/metrics"))["lensqueue_leases_expired_total"] == before + 1
