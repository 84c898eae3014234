"""Submitting, polling and fetching, without a worker: what the API accepts and what it stores."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from jobs.keys import create_key
from jobs.leases import Appetite
from tests.integration.test_batch import allow_connections
from tests.ledger import MODEL, claim, complete, scalar, submit_texts

if TYPE_CHECKING:
    from fastapi import FastAPI

LENS = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"]}


def submit(api: TestClient, **changes: Any) -> Any:
    return api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}} | changes)


def test_a_job_is_accepted_and_says_where_to_look(api: TestClient) -> None:
    answer = submit(api)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert (job["state"], job["done"], job["model"], job["workers_online"]) == ("queued", False, MODEL, 0)
    progress = {"total": 1, "succeeded": 0, "failed": 0, "dropped": 0, "fraction": 0.0}
    assert job["progress"] == progress | {"eta_s": None, "queue_position": 1}
    polled = api.get(job["links"]["self"])
    assert polled.json() == job
    assert "Retry-After" in polled.headers


def test_a_submit_costs_few_statements(api: TestClient, picture: bytes) -> None:
    """Its API key, the charge, the rows; for a key: it looked for, a bound on locks, taken, the outlook."""
    seen: list[str] = []
    services = cast("FastAPI", api.app).state.services
    for sessions in (services.sessions, services.reading):
        engine = sessions.kw["bind"].sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))

    def cost(body: dict[str, Any], **headers: str) -> int:
        seen.clear()
        assert api.post("/v1/jobs", json=body, headers=headers).status_code == 202
        # the backlog is heard in between, whoever submits
        return sum("sum(work.items)" not in statement for statement in seen)

    texts = {"type": "embedding", "input": {"texts": ["a ring"] * 64}}
    lens = LENS | {"input": {"images": [{"data": base64.b64encode(picture).decode()}]}}
    once = {"Idempotency-Key": "order 1"}
    assert (cost(texts), cost(lens), cost(lens, **once), cost(lens, **once)) == (3, 3, 7, 4)


def test_json_and_multipart_store_the_same_picture_once(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session]
) -> None:
    encoded = base64.b64encode(picture).decode()
    first = api.post("/v1/jobs", json=LENS | {"input": {"images": [{"data": encoded, "custom_id": "mine"}]}})
    second = api.post(
        "/v1/jobs", data={"job": json.dumps(LENS)}, files=[("images", ("scene.jpg", picture, "image/jpeg"))]
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert scalar(sessions, "SELECT count(*) FROM images") == 1
    one, two = claim(sessions), claim(sessions)
    assert one is not None
    assert two is not None
    (first_unit,), (second_unit,) = one.units, two.units
    assert first_unit.items[0]["sha256"] == second_unit.items[0]["sha256"]
    names = first_unit.items[0]["custom_id"], second_unit.items[0]["custom_id"]
    assert names == ("mine", "scene.jpg")
    assert first_unit.options["labels"] == LENS["labels"]


def test_results_come_in_pages(api: TestClient, sessions: sessionmaker[Session]) -> None:
    job = submit(api, input={"texts": [f"text {number}" for number in range(5)]}).json()
    assert api.get(job["links"]["results"]).json() == {"items": [], "next_page_token": None}
    held = claim(sessions, appetite=Appetite(items=5))
    assert held is not None
    complete(sessions, held, failing=[3])
    seen: list[int] = []
    token: str | None = None
    while True:
        page = api.get(
            job["links"]["results"], params={"limit": 2} | ({"page_token": token} if token else {})
        ).json()
        seen += [item["index"] for item in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert seen == [0, 1, 2, 3, 4]
    failed = api.get(job["links"]["results"]).json()["items"][3]
    assert failed["state"] == "failed"
    assert failed["error"]["code"] == "image-truncated"
    polled = api.get(job["links"]["self"]).json()
    assert (polled["state"], polled["done"]) == ("partial", True)


def test_another_tenants_job_is_answered_exactly_as_an_unknown_one(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    job = submit(api).json()
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    unknown = api.get("/v1/jobs/job_" + "0" * 32).json()
    for link in (job["links"]["self"], job["links"]["results"]):
        answer = api.get(link, headers={"Authorization": f"Bearer {foreign}"})
        assert answer.status_code == 404
        assert answer.json() | {"request_id": ""} == unknown | {"request_id": ""}


def test_a_picture_is_stored_apart_for_each_tenant(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    for headers in ({}, {"Authorization": f"Bearer {foreign}"}):
        api.post(
            "/v1/jobs",
            data={"job": json.dumps(LENS)},
            files=[("images", ("scene.jpg", picture, "image/jpeg"))],
            headers=headers,
        )
    assert scalar(sessions, "SELECT count(DISTINCT id) FROM images") == 2


def test_a_revoked_key_is_refused(api: TestClient, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.connection().exec_driver_sql("UPDATE api_keys SET revoked_at = now()")
    answer = api.get("/v1/workers")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-key")


def test_readiness_asks_for_the_schema_and_on_request_for_a_worker(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    for path in ("/healthz", "/readyz"):
        assert (api.head(path).status_code, api.head(path).content) == (200, b"")
    assert api.get("/readyz").status_code == 200
    unready = api.get("/readyz", params={"worker": 1})
    assert (unready.status_code, unready.json()["code"]) == (503, "unready")
    assert "lensqueue worker" in unready.json()["detail"]


def test_readiness_fails_on_an_older_schema(api: TestClient, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    unready = api.get("/readyz")
    assert unready.status_code == 503
    assert "lensqueue migrate" in unready.json()["detail"]


def test_the_openapi_document_describes_the_job_request(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    schemas = document["components"]["schemas"]
    assert {"LensRequest", "EmbeddingRequest", "JobRequest", "JobView"} <= set(schemas)
    assert schemas["LensRequest"]["properties"]["labels"]["type"] == "array"
    assert set(schemas["Priority"]["enum"]) == {"interactive", "bulk"}
    paths = document["paths"]
    answers = {
        path: set(paths[path]["post"]["responses"]) for path in ("/v1/jobs", "/v1/jobs/{job_id}/cancel")
    }
    assert {"200", "202", "400", "413", "415", "422", "429", "503"} <= answers["/v1/jobs"]
    assert {"200", "202", "404", "409"} <= answers["/v1/jobs/{job_id}/cancel"]
    for path in ("results", "items/{index}", "items/{index}/scores", "items/{index}/overlay.png"):
        assert {"404", "410"} <= set(paths[f"/v1/jobs/{{job_id}}/{path}"]["get"]["responses"])


def test_the_maintenance_of_the_api_returns_work_of_a_lost_worker(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    submit_texts(sessions)
    held = claim(sessions, ttl_seconds=0.5)
    assert held is not None
    with sessions.begin() as session:
        session.connection().exec_driver_sql("UPDATE leases SET ttl = interval '0'")
    for _ in range(100):
        if again := claim(sessions):
            break
        time.sleep(0.1)  # the API runs in a thread of its own
    assert again is not None
    assert [unit.attempt for unit in again.units] == [2]


@pytest.mark.parametrize("name", ["scene\x00.jpg", "\u202egpj.exe", "x" * 2_000, "../../etc/passwd"])
def test_odd_file_names_are_kept_as_far_as_they_can_be_stored(
    api: TestClient, picture: bytes, sessions: sessionmaker[Session], name: str
) -> None:
    answer = api.post(
        "/v1/jobs", data={"job": json.dumps(LENS)}, files=[("images", (name, picture, "image/jpeg"))]
    )
    assert answer.status_code == 202
    held = claim(sessions)
    assert held is not None
    assert len(held.units[0].items[0]["custom_id"]) <= 500


def test_a_stored_job_is_accepted_even_when_the_database_is_lost_while_the_client_waits(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = {"type": "embedding", "input": {"texts": ["a ring"]}}
        posted = pool.submit(api.post, "/v1/jobs", json=asked, headers={"Prefer": "wait=2"})
        while not scalar(sessions, "SELECT count(*) FROM jobs"):
            time.sleep(0.01)
        allow_connections(sessions, False)
        try:
            answer = posted.result()
        finally:
            allow_connections(sessions, True)
    # an error would make the client send it again
    assert answer.status_code == 202
    assert api.get(answer.headers["Location"]).json()["state"] == "queued"
