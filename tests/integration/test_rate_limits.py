"""How often a key may ask, what it is told of that, and what the log and the ledger hold of each request."""

import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from structlog.testing import capture_logs

from api.settings import ApiSettings
from jobs.keys import create_key
from models.types import Scope
from tests.integration.test_backpressure import limited, submit
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, scalar

if TYPE_CHECKING:
    from api.deps import Services

Sessions = sessionmaker[Session]
POLICY = "RateLimit-Policy"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_answer_to_a_good_key_says_what_is_left(settings: ApiSettings, key: str) -> None:
    with limited(settings, key, requests_per_minute=100) as api:
        answers = [
            api.get("/v1/workers"),
            api.get("/v1/jobs/job_1"),
            api.post("/v1/jobs", json={}),
            api.get("/v1/api-keys"),
        ]
        assert [answer.status_code for answer in answers] == [200, 404, 422, 403]
        assert {answer.headers[POLICY] for answer in answers} == {'"default";q=100;w=60'}
        left = [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers]
        assert left == [f'"default";r={number}' for number in (99, 98, 97, 96)]
        assert POLICY not in api.get("/healthz").headers
        assert POLICY not in api.get("/v1/workers", headers=bearer("lq_bad")).headers


def test_beyond_its_limit_a_key_is_told_when_to_come_again_and_nothing_is_done(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        own = create_key(session, name="own limit", tenant=TENANT, requests_per_minute=5).key
    with limited(settings, key, requests_per_minute=2) as api:
        assert [submit(api, 1).status_code for _ in range(3)] == [202, 202, 429]
        refused = submit(api, 1)
        assert_problem(refused, 429, "rate-limited")
        seconds = int(refused.headers["Retry-After"])
        assert 50 < seconds <= 60
        assert refused.headers["RateLimit"] == f'"default";r=0;t={seconds}'
        assert scalar(sessions, "SELECT count(*) FROM jobs") == 2
        # another key of the same tenant has a limit of its own, and this one its own number too
        codes = [api.get("/v1/workers", headers=bearer(own)).status_code for _ in range(6)]
        assert codes == [200] * 5 + [429]


def test_a_service_may_do_without(settings: ApiSettings, key: str) -> None:
    with limited(settings, key, requests_per_minute=0) as api:
        answer = api.get("/v1/workers")
        assert (answer.status_code, POLICY in answer.headers) == (200, False)


def test_bad_keys_cannot_be_tried_at_speed_and_good_ones_are_not_held_up(
    settings: ApiSettings, key: str
) -> None:
    with limited(settings, key, bad_keys_per_minute=3) as api:
        assert api.get("/v1/workers").status_code == 200
        guesses = [
            # whatever a client says of where it comes from
            api.get("/v1/workers", headers=bearer(f"lq_{number}") | {"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(5)
        ]
        assert [guess.status_code for guess in guesses] == [401] * 3 + [429] * 2
        assert_problem(guesses[-1], 429, "rate-limited")
        assert int(guesses[-1].headers["Retry-After"]) > 50
        assert api.get("/v1/workers").status_code == 200
        # nothing is guessed without a key
        assert api.get("/v1/workers", headers={"Authorization": ""}).status_code == 401


def test_each_request_is_a_line_of_the_log_without_what_a_client_may_keep_secret(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key) as api, capture_logs() as logs:
        good = api.get("/v1/jobs/job_private?page_token=private")
        bad = api.get("/v1/workers", headers=bearer("lq_private"))
        api.get("/private")
        submit(api, 1)
    lines = [line for line in logs if line["event"] == "request.answered"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/v1/jobs/{job_id}", 422),
        ("GET", "/v1/workers", 401),
        ("GET", None, 404),
        ("POST", "/v1/jobs", 202),
    ]
    key_id = scalar(sessions, "SELECT id FROM api_keys").hex
    assert [line["key"] for line in lines] == [f"key_{key_id}", None, None, f"key_{key_id}"]
    assert (lines[0]["sent_bytes"], lines[1]["sent_bytes"]) == (len(good.content), len(bad.content))
    assert lines[3]["received_bytes"] > 0
    assert all(line["duration_ms"] > 0 for line in lines)
    assert "private" not in str(logs)
    assert key not in str(logs)


def usage(api: TestClient, **query: Any) -> dict[str, Any]:
    answer = api.get("/v1/usage", params=query)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def flush(api: TestClient) -> None:
    assert api.portal is not None
    services: Services = api.app.state.services  # type: ignore[attr-defined]  # FastAPI's
    api.portal.start_task_soon(services.usage.flush).result()


def test_usage_counts_what_a_key_did_and_a_job_sent_again_once(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key, max_tenant_items=5) as api:
        sent = [submit(api, 3, **{"Idempotency-Key": "once"}) for _ in range(2)]
        sent += [submit(api, 2), submit(api, 1)]
        assert [answer.status_code for answer in sent] == [202, 202, 202, 429]
        api.get("/v1/workers", headers=bearer("lq_bad"))
        flush(api)
        # twice: what was written is not written again
        flush(api)
        shown = usage(api)
        (day,) = shown["items"]
        assert (day["requests"], day["refused"], day["jobs"], day["items"]) == (4, 1, 2, 5)
        assert day["gflop"] == pytest.approx(scalar(sessions, "SELECT sum(cost) FROM jobs"))
        assert day["received_bytes"] == sum(len(answer.request.content) for answer in sent)
        assert day["sent_bytes"] == sum(len(answer.content) for answer in sent)
        assert shown["totals"] == {name: day[name] for name in shown["totals"]}
        assert shown["quotas"]["items"] == {"held": 5, "limit": 5}
        assert shown["quotas"]["gflop"]["held"] == pytest.approx(day["gflop"])
        assert shown["quotas"]["gflop"]["limit"] is None
        assert scalar(sessions, "SELECT last_used_at > now() - interval '1 minute' FROM api_keys")
    # the end of the process writes what is left
    assert scalar(sessions, "SELECT requests FROM key_usage") == 5


def test_jobs_that_are_tried_again_count_for_who_wanted_it(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key) as api:
        first, second = submit(api, 2).json(), submit(api, 3).json()
        for job in (first, second):
            api.post(job["links"]["cancel"]).raise_for_status()
        once = {"Idempotency-Key": "again"}
        for _ in range(2):
            path = f"{first['links']['self']}/retry"
            assert api.post(path, json={"scope": "all"}, headers=once).status_code == 202
        wish = {"action": "retry", "filter": {"state": ["cancelled"]}, "expected_count": 2}
        accepted = api.post("/v1/job-actions", json=wish)
        assert accepted.status_code == 202, accepted.text
        until = time.monotonic() + 30
        while api.get(accepted.headers["Location"]).json()["state"] == "running":
            assert time.monotonic() < until
            time.sleep(0.1)
    made = "SELECT count(*) || ' ' || sum(total) FROM jobs"
    assert scalar(sessions, "SELECT jobs || ' ' || items FROM key_usage") == scalar(sessions, made) == "5 12"


def test_when_a_key_was_last_used_is_written_now_and_then(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    def note(minutes: int) -> bool:
        """Whether it is written again so many minutes later."""
        with sessions.begin() as session:
            session.connection().exec_driver_sql(
                f"UPDATE api_keys SET last_used_at = now() - interval '{minutes} minutes'"  # noqa: S608 - a number
            )
        api.get("/v1/workers")
        flush(api)
        return bool(scalar(sessions, "SELECT last_used_at > now() - interval '30 seconds' FROM api_keys"))

    with limited(settings, key) as api:
        assert (note(2), note(4)) == (False, True)


def test_what_cannot_be_written_is_kept_and_written_later(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key) as api:
        api.get("/v1/workers")
        with sessions.begin() as session:
            session.connection().exec_driver_sql("ALTER TABLE key_usage RENAME TO elsewhere")
        with pytest.raises(Exception, match="key_usage"):
            flush(api)
        api.get("/v1/workers")
        with sessions.begin() as session:
            session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO key_usage")
        flush(api)
        assert scalar(sessions, "SELECT requests FROM key_usage") == 2


def test_a_key_sees_its_own_usage_and_an_administrator_all_of_the_tenant(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        admin = create_key(session, name="admin", tenant=TENANT, scopes=[Scope.ADMIN])
        foreign = create_key(session, name="foreign", tenant="somebody else")
        submitter = create_key(session, name="submits", tenant=TENANT, scopes=[Scope.SUBMIT])
    with limited(settings, key) as api:
        ids = {}
        for made in (admin, foreign):
            api.get("/v1/workers", headers=bearer(made.key))
            ids[made.key] = f"key_{made.row.id.hex}"
        api.get("/v1/workers")
        flush(api)
        (own,) = usage(api)["items"]
        assert usage(api, key_id=own["key_id"])["items"] == [own]
        for wire_id in (*ids.values(), "key_" + "0" * 32, "nobody"):
            assert_problem(api.get("/v1/usage", params={"key_id": wire_id}), 404, "not-found")
        assert_problem(api.get("/v1/usage", headers=bearer(submitter.key)), 403, "insufficient-scope")
        api.headers.update(bearer(admin.key))
        assert {item["key_id"] for item in usage(api)["items"]} == {own["key_id"], ids[admin.key]}
        (shown,) = usage(api, key_id=own["key_id"])["items"]
        assert shown["requests"] >= own["requests"]
        unknown = api.get("/v1/usage", params={"key_id": ids[foreign.key]})
        assert_problem(unknown, 404, "not-found")


def test_usage_comes_in_pages_newest_first_over_the_days_that_were_asked_for(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO key_usage (key_id, day, requests) SELECT id, current_date - n, 1"
            " FROM api_keys, generate_series(0, 39) AS n"
        )
    with limited(settings, key) as api:
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 7}
        while True:
            shown = usage(api, **query)
            seen += [item["day"] for item in shown["items"]]
            assert shown["totals"]["requests"] == 30
            if shown["next_page_token"] is None:
                break
            query["page_token"] = shown["next_page_token"]
        assert seen == sorted(set(seen), reverse=True)
        assert (len(seen), seen[0], seen[-1]) == (30, shown["last_day"], shown["first_day"])
        days = {"from": seen[-1], "to": seen[-3]}
        assert [item["day"] for item in usage(api, **days)["items"]] == seen[-3:]
        for wrong in (
            {"from": seen[0], "to": seen[1]},
            {"from": "2020-01-01"},
            {"from": "yesterday"},
            {"page_token": "x"},
            {"page_token": "A" * 27},
            {"limit": 0},
        ):
            assert_problem(api.get("/v1/usage", params=wrong), 422, "invalid-request")
        assert usage(api, to="0001-01-01")["items"] == []
        assert math.isclose(usage(api)["quotas"]["items"]["held"], 0)
