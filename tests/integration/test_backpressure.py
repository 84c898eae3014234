"""What waits is bounded, in all and for each tenant; and who is refused, or sends again, is not charged."""

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from jobs.blobs import SENTINEL
from jobs.keys import create_key
from jobs.leases import Appetite
from tests.faults import change
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import claim, complete, scalar
from tests.lossy import lossy_way

Sessions = sessionmaker[Session]
LENS = {"type": "logit_lens", "labels": ["a cyan ring"]}
KEY = {"Idempotency-Key": "order 1"}
REFUSE_JOBS = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()"""


@contextmanager
def limited(settings: ApiSettings, key: str, **limits: Any) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update=limits))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as api:
        yield api


def submit(api: TestClient, count: int, **headers: str) -> Any:
    body = {"type": "embedding", "input": {"texts": [f"text {number}" for number in range(count)]}}
    return api.post("/v1/jobs", json=body, headers=headers)


def clock(sessions: Sessions) -> float:
    return float(scalar(sessions, "SELECT coalesce(sum(clock), 0) FROM flows"))


def finish(sessions: Sessions, items: int) -> None:
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert held.size == items
    assert complete(sessions, held)


def test_a_tenant_may_have_so_many_items_waiting_and_others_are_not_held_up(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    with limited(settings, key, max_tenant_items=5) as api:
        assert submit(api, 3).status_code == 202
        charged = clock(sessions)
        refused = submit(api, 3)
        problem = assert_problem(refused, 429, "quota-exceeded")
        assert int(refused.headers["Retry-After"]) > 0
        assert "3 items of yours wait or run" in problem["detail"]
        assert clock(sessions) == charged
        assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
        assert submit(api, 3, Authorization=f"Bearer {foreign}").status_code == 202
        finish(sessions, 3)
        assert submit(api, 3).status_code == 202


def test_a_job_that_can_never_fit_is_not_told_to_try_again(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    for limit in ({"max_tenant_items": 2}, {"max_tenant_gflop": 1e-6}, {"max_queue_items": 2}):
        with limited(settings, key, **limit) as api:
            refused = submit(api, 3)
            assert_problem(refused, 422, "over-quota")
            assert "Retry-After" not in refused.headers
    assert (clock(sessions), scalar(sessions, "SELECT count(*) FROM jobs")) == (0, 0)


def test_pictures_count_by_their_bytes_however_they_come_and_none_is_stored_of_what_is_refused(
    settings: ApiSettings, key: str, sessions: Sessions, picture: bytes
) -> None:
    files = [("images", ("a.jpg", picture, "image/jpeg"))]
    encoded = {"data": base64.b64encode(picture).decode()}
    with limited(settings, key, max_tenant_bytes=len(picture) - 1) as api:
        posts = [
            api.post("/v1/jobs", data={"job": json.dumps(LENS)}, files=files),
            api.post("/v1/jobs", json=LENS | {"input": {"images": [encoded]}}),
        ]
        assert [path.name for path in settings.blobs.iterdir()] == [SENTINEL]
        named = {"image_id": api.post("/v1/images", files=files).json()["items"][0]["id"]}
        posts.append(api.post("/v1/jobs", json=LENS | {"input": {"images": [named]}}))
        for answer in posts:
            assert str(len(picture)) in assert_problem(answer, 422, "over-quota")["detail"]
        assert clock(sessions) == 0
    with limited(settings, key, max_tenant_bytes=len(picture)) as api:
        # to the byte
        assert api.post("/v1/jobs", json=LENS | {"input": {"images": [encoded]}}).status_code == 202
        again = api.post("/v1/jobs", json=LENS | {"input": {"images": [named]}})
        assert_problem(again, 429, "quota-exceeded")


def test_a_full_queue_takes_no_more_until_there_is_room(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key, max_queue_items=5) as api:
        assert submit(api, 3).status_code == 202
        # at once: what this process accepted it need not hear of first
        refused = submit(api, 3)
        assert_problem(refused, 503, "queue-full")
        assert int(refused.headers["Retry-After"]) > 0
        assert submit(api, 2).status_code == 202
        time.sleep(2.5)
        assert_problem(submit(api, 1), 503, "queue-full")
        finish(sessions, 5)
        until = time.monotonic() + 10
        while (answer := submit(api, 5)).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert answer.status_code == 202


def test_what_waited_before_the_process_began_is_heard_of(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with limited(settings, key) as api:
        assert submit(api, 3).status_code == 202
    with limited(settings, key, max_queue_items=5) as api:
        until = time.monotonic() + 10
        while (answer := submit(api, 3)).status_code == 202:
            api.post(answer.json()["links"]["cancel"]).raise_for_status()
            assert time.monotonic() < until
            time.sleep(0.1)
        assert_problem(answer, 503, "queue-full")
    assert scalar(sessions, "SELECT sum(items) FROM work") == 3


@pytest.mark.parametrize("limit", ["max_tenant_items", "max_queue_items"])
def test_a_job_that_is_sent_again_is_neither_charged_nor_refused(
    settings: ApiSettings, key: str, sessions: Sessions, limit: str
) -> None:
    with limited(settings, key, **{limit: 3}) as api:
        first = submit(api, 3, **KEY)
        charged = clock(sessions)
        again = submit(api, 3, **KEY)
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
        assert again.json()["id"] == first.json()["id"]
        assert clock(sessions) == charged > 0
        assert submit(api, 3).status_code in {429, 503}
        assert clock(sessions) == charged


def test_of_a_job_that_is_sent_many_times_at_once_one_is_charged_and_none_refused(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    start = threading.Barrier(20)

    def post(_: int) -> Any:
        start.wait()
        return submit(api, 3, **KEY)

    with limited(settings, key, max_tenant_items=3) as api:
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(post, range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        charged = clock(sessions)
        api.post(answers[0].json()["links"]["cancel"]).raise_for_status()
        assert charged > 0
        assert clock(sessions) == pytest.approx(0, abs=1e-9)


def test_what_fails_after_the_charge_gets_it_back(
    settings: ApiSettings, key: str, sessions: Sessions, picture: bytes
) -> None:
    with limited(settings, key) as api:
        shutil.rmtree(settings.blobs)
        settings.blobs.write_text("a file where the folder was")
        image = {"data": base64.b64encode(picture).decode()}
        answer = api.post("/v1/jobs", json=LENS | {"input": {"images": [image]}})
        assert_problem(answer, 500, "internal")
    assert scalar(sessions, "SELECT count(*) FROM flows") == 1, "it was charged"
    assert clock(sessions) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("asked", ["submit", "submit with a key", "retry"])
def test_a_job_that_was_stored_is_charged_though_the_answer_to_its_commit_was_lost(
    settings: ApiSettings, key: str, sessions: Sessions, asked: str
) -> None:
    headers = {} if asked == "submit" else KEY
    with ExitStack() as stack:
        way = stack.enter_context(lossy_way(settings.database_url, b"INSERT INTO work"))
        api = stack.enter_context(limited(settings, key, database_url=way.url))
        link = submit(api, 1).json()["links"]["self"]
        finish(sessions, 1)

        def send() -> Any:
            if asked == "retry":
                return api.post(f"{link}/retry", json={"scope": "all"}, headers=headers)
            return submit(api, 3, **headers)

        way.losses = 1
        assert_problem(send(), 503, "unavailable")
        assert way.losses == 0
        stored = "SELECT count(*) || ' ' || (max(vtime_end) = (SELECT clock FROM flows)) FROM jobs"
        assert scalar(sessions, stored) == "2 true"
        again = send()
        assert ("Idempotency-Replayed" in again.headers) == bool(headers)
        assert scalar(sessions, stored) == ("2 true" if headers else "3 true")
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0


@pytest.mark.parametrize("asked", ["submit", "submit with a key", "retry"])
def test_what_fails_gets_its_charge_back_though_an_equal_job_was_charged_to_the_same_clock(
    settings: ApiSettings, key: str, sessions: Sessions, asked: str
) -> None:
    """The clock of a flow is turned back by a cancel: where it stands then it has stood before."""
    with limited(settings, key) as api:
        link = submit(api, 3).json()["links"]["self"]
        finish(sessions, 3)

        def send(number: int) -> Any:
            headers = {} if asked == "submit" else {"Idempotency-Key": f"order {number}"}
            if asked == "retry":
                return api.post(f"{link}/retry", json={"scope": "all"}, headers=headers)
            return submit(api, 3, **headers)

        twin = send(1).raise_for_status().json()
        api.post(twin["links"]["cancel"]).raise_for_status()
        before = clock(sessions)
        change(sessions, REFUSE_JOBS)
        assert send(2).status_code == 503
        assert clock(sessions) == pytest.approx(before)
        change(sessions, "DROP TRIGGER refuse ON jobs")
        send(3).raise_for_status()
        assert clock(sessions) == scalar(sessions, "SELECT max(vtime_end) FROM jobs")
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0


def test_the_process_ends_soon_also_when_a_duty_waits_for_the_database(
    settings: ApiSettings, key: str, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        with limited(settings, key):
            session.connection().exec_driver_sql("LOCK TABLE leases, idempotency_keys, work")
            until = time.monotonic() + 10
            while not scalar(sessions, "SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert time.monotonic() < until
                time.sleep(0.05)
            started = time.monotonic()
        assert time.monotonic() - started < 4
