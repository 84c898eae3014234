"""Trying a job again: what failed or was dropped, or all of it, as a job of its own."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from engine.catalog import Catalog
from jobs import retry
from jobs.admission import Quota, admit
from jobs.deletion import delete_job
from jobs.endpoints import Changes, change_endpoint, create_endpoint, delete_endpoint, note_verification
from jobs.errors import ResultsExpiredError
from jobs.leases import Appetite
from jobs.retry import RetryScope
from jobs.submission import Terms
from models.job import Job
from models.types import Priority
from tests.faults import cancel_job, change, in_thread, together
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import MODEL, TENANT, assert_settled, claim, complete, read, scalar, submit_texts

Sessions = sessionmaker[Session]
LENS = {"type": "logit_lens", "labels": ["a cyan ring", "a red heart"], "tags": {"set": "A"}}
KEY = {"Idempotency-Key": "again 1"}


def finish(sessions: Sessions, items: int = 1, *, failing: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Work on so many items; the items as the worker got them."""
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert complete(sessions, held, failing=failing)
    return [item for unit in held.units for item in unit.items]


def submit(api: TestClient, count: int = 3) -> dict[str, Any]:
    body = {"type": "embedding", "input": {"texts": [f"text {number}" for number in range(count)]}}
    job: dict[str, Any] = api.post("/v1/jobs", json=body).raise_for_status().json()
    return job


def post(api: TestClient, job: dict[str, Any], scope: str = "failed_items", **headers: str) -> Any:
    return api.post(job["links"]["retry"], json={"scope": scope}, headers=headers)


def retry_verb(sessions: Sessions, job_id: uuid.UUID, scope: RetryScope = RetryScope.FAILED_ITEMS) -> Job:
    """As the API does it, in one transaction."""
    with sessions.begin() as session:
        found = retry.find_retry(session, TENANT, job_id, scope, None)
        admission = admit(session, TENANT, found.submission, Catalog(), Quota())
        return retry.store_retry(session, found, admission)


def test_what_failed_or_was_dropped_is_tried_again_as_a_new_job(
    api: TestClient, sessions: Sessions, picture: bytes
) -> None:
    image_id = api.post("/v1/images", files={"images": picture}).json()["items"][0]["id"]
    images = [{"image_id": image_id, "custom_id": f"{number}.jpg"} for number in range(5)]
    terms = {"start_within_s": 600, "run_timeout_s": 700, "result_ttl_s": 800}
    before = api.post("/v1/jobs", json=LENS | {"input": {"images": images}} | terms).json()
    finish(sessions, 3, failing=(1,))
    api.post(before["links"]["cancel"])
    answer = post(api, before)
    job = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, job["links"]["self"])
    assert (job["retry_of"], job["attempt"], job["state"]) == (before["id"], 2, "queued")
    assert (job["progress"]["total"], job["tags"], job["model"]) == (3, {"set": "A"}, MODEL)
    items = finish(sessions, 3)
    assert [(item["index"], item["custom_id"]) for item in items] == [
        (0, "1.jpg"),
        (1, "3.jpg"),
        (2, "4.jpg"),
    ]
    shown = api.get(job["links"]["results"]).json()["items"]
    assert [(item["retry_of_index"], item["image_id"]) for item in shown] == [
        (index, image_id) for index in (1, 3, 4)
    ]
    assert "retry_of_index" not in api.get(before["links"]["results"]).json()["items"][0]
    old, new = (
        scalar(sessions, "SELECT to_jsonb(jobs) FROM jobs WHERE id = :id", id=each["id"].removeprefix("job_"))
        for each in (before, job)
    )
    for same in ("options", "tags", "key_id", "run_timeout", "result_ttl", "priority"):
        assert old[same] == new[same], same
    spans = "SELECT count(DISTINCT start_by - created_at) FROM jobs"
    assert scalar(sessions, spans) == 1
    # the picture is kept for the new one as well
    api.delete(before["links"]["self"])
    assert_problem(api.delete(f"/v1/images/{image_id}"), 409, "image-in-use")
    assert_settled(sessions)


def test_all_of_a_job_is_tried_again_also_when_its_results_are_gone(
    api: TestClient, sessions: Sessions
) -> None:
    before = submit(api)
    finish(sessions, 3, failing=(1,))
    change(sessions, "DELETE FROM results")
    change(sessions, "UPDATE jobs SET expires_at = now(), results_removed_at = now()")
    assert_problem(post(api, before), 410, "results-expired")
    again = post(api, before, "all").json()
    assert again["progress"]["total"] == 3
    third = finish(sessions, 3)
    assert [item["text"] for item in third] == ["text 0", "text 1", "text 2"]
    # of a job in which nothing succeeded all is known without them
    last = submit(api)
    cancel_job(sessions, uuid.UUID(last["id"].removeprefix("job_")))
    change(sessions, "UPDATE jobs SET expires_at = now(), results_removed_at = now()")
    assert post(api, last).json()["progress"]["total"] == 3


@pytest.mark.parametrize("since", ["enabled", "disabled", "deleted"])
def test_the_same_endpoint_is_told_unless_it_was_deleted(sessions: Sessions, since: str) -> None:
    with sessions.begin() as session:
        endpoint = create_endpoint(session, TENANT, httpx.URL("https://hooks.example.org/in"), "", 1)
    job_id = submit_texts(sessions)
    change(sessions, "UPDATE jobs SET webhook_endpoint_id = :id", id=endpoint.id)
    finish(sessions, failing=(0,))
    with sessions.begin() as session:
        note_verification(session, endpoint, None)
        if since == "disabled":
            change_endpoint(session, TENANT, endpoint.id, Changes(enabled=False))
        elif since == "deleted":
            delete_endpoint(session, TENANT, endpoint.id)
    assert read(sessions, retry_verb(sessions, job_id).id).webhook_endpoint_id == (
        None if since == "deleted" else endpoint.id
    )


def test_an_attempt_counts_the_tries_before_it(api: TestClient, sessions: Sessions) -> None:
    job = submit(api, 1)
    assert job["attempt"] == 1
    for attempt in (2, 3):
        finish(sessions, failing=(0,))
        job = post(api, job).json()
        assert job["attempt"] == attempt
    items = finish(sessions)
    assert items[0]["retry_of_index"] == 0


def test_what_cannot_be_tried_again_is_refused(api: TestClient, sessions: Sessions) -> None:
    job = submit(api)
    assert_problem(post(api, job), 409, "not-ended")
    finish(sessions, 3)
    assert_problem(post(api, job), 409, "nothing-to-retry")
    for body, status, code in (
        ('{"scope": "some"}', 422, "invalid-request"),
        ('{"scope": true}', 422, "invalid-request"),
        ('{"scope": "all", "labels": []}', 422, "invalid-request"),
        ("[]", 422, "invalid-request"),
        ("{", 400, "malformed-body"),
        ('{"scope": "' + "a" * 100_000 + '"}', 413, "body-too-large"),
    ):
        headers = {"Content-Type": "application/json"}
        assert_problem(api.post(job["links"]["retry"], content=body, headers=headers), status, code)
    assert_problem(api.post(job["links"]["retry"], content=b"{}"), 415, "unsupported-media-type")
    api.delete(job["links"]["self"])
    assert_problem(post(api, job, "all"), 410, "job-deleted")
    assert_problem(api.post("/v1/jobs/job_" + "0" * 32 + "/retry", json={}), 404, "not-found")
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_a_retry_sent_again_makes_no_second_job(api: TestClient, sessions: Sessions) -> None:
    before = submit(api)
    finish(sessions, 3, failing=(0, 2))
    answers = together(*[lambda: post(api, before, **KEY)] * 8)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 2
    charged = scalar(sessions, "SELECT clock FROM flows")
    finish(sessions, 2)
    # also when it could not be made any more
    api.delete(before["links"]["self"])
    assert post(api, before, **KEY).json()["id"] == answers[0].json()["id"]
    assert scalar(sessions, "SELECT clock FROM flows") == charged
    assert_problem(post(api, before, "all", **KEY), 422, "idempotency-key-reused")
    assert_problem(api.post("/v1/jobs", json=LENS, headers=KEY), 422, "no-input")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
def test_a_retry_without_a_body_is_one_of_what_failed(
    api: TestClient, sessions: Sessions, headers: dict[str, str]
) -> None:
    before = submit(api)
    finish(sessions, 3, failing=(1,))
    again = api.post(before["links"]["retry"], headers=KEY | headers)
    assert (again.status_code, again.json()["progress"]["total"]) == (202, 1)
    # to its key it is the same request as one that says so
    assert post(api, before, **KEY).json()["id"] == again.json()["id"]


def test_a_retry_needs_room_like_any_submit(settings: ApiSettings, key: str, sessions: Sessions) -> None:
    small = settings.model_copy(update={"max_tenant_items": 3})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as api:
        before = submit(api)
        finish(sessions, 3, failing=(0, 1))
        submit(api, 2)
        refused = assert_problem(post(api, before), 429, "quota-exceeded")
        assert "this job has 2" in refused["detail"]
        assert scalar(sessions, "SELECT count(*) FROM jobs") == 2


def test_a_large_job_is_tried_again_in_the_order_of_its_items(sessions: Sessions) -> None:
    count = 120_000
    terms = Terms(result_ttl=timedelta(days=1))
    job_id = submit_texts(sessions, count, priority=Priority.BULK, terms=terms)
    change(sessions, "DELETE FROM work")
    change(
        sessions,
        """INSERT INTO results (job_id, index, state, item, payload)
           SELECT :id, n, 'succeeded', '{}', '{}'
           FROM generate_series(0, :count - 1) AS n WHERE n % 3 <> 0""",
        id=job_id,
        count=count,
    )
    change(
        sessions,
        """UPDATE jobs SET state = 'partial', succeeded = total * 2 / 3, dropped = total / 3,
                          ended_at = now(), expires_at = now() + result_ttl""",
    )
    again = retry_verb(sessions, job_id)
    assert again.total == count // 3
    counted = """
        SELECT count(*), count(DISTINCT item ->> 'index'), min((item ->> 'index')::int),
               max((item ->> 'index')::int),
               bool_and((item ->> 'retry_of_index')::int = 3 * (item ->> 'index')::int),
               bool_and(item ->> 'text' = 'text ' || (item ->> 'retry_of_index'))
        FROM job_inputs, jsonb_array_elements(items) AS item WHERE job_id = :id"""
    with sessions() as session:
        row = session.connection().exec_driver_sql(counted.replace(":id", f"'{again.id}'")).one()
    assert tuple(row) == (count // 3, count // 3, 0, count // 3 - 1, True, True)
    fitting = """SELECT bool_and(work.items = jsonb_array_length(job_inputs.items))
                 FROM work FULL JOIN (SELECT * FROM job_inputs WHERE job_id = :id) AS job_inputs
                     USING (job_id, unit)"""
    assert scalar(sessions, fitting, id=again.id) is True
    assert scalar(sessions, "SELECT sum(items) FROM work") == count // 3


def test_results_that_go_meanwhile_fail_the_retry_and_not_its_sum(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 3)
    finish(sessions, 3, failing=(0,))
    change(sessions, "DELETE FROM results WHERE index = 2")
    with pytest.raises(ResultsExpiredError):
        retry_verb(sessions, job_id)
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1


def test_a_job_is_not_deleted_while_it_is_tried_again(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2)
    finish(sessions, 2, failing=(0,))

    def delete() -> None:
        with sessions.begin() as session:
            delete_job(session, TENANT, job_id)

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            found = retry.find_retry(session, TENANT, job_id, RetryScope.ALL, None)
            deleting = in_thread(pool, sessions, delete)
            admission = admit(session, TENANT, found.submission, Catalog(), Quota())
            again = retry.store_retry(session, found, admission)
        deleting.result()
    assert read(sessions, job_id).deleted_at is not None
    assert scalar(sessions, "SELECT count(*) FROM job_inputs WHERE job_id = :id", id=again.id) > 0
