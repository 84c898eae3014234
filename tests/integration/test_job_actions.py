"""Actions on many jobs: counted first, then done in slices, and what cannot be acted upon is skipped."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import acting, actions
from jobs.acting import Actor
from jobs.actions import Wish
from jobs.admission import Quota
from jobs.broker import Inviter
from jobs.errors import TooManyJobsError
from jobs.keys import create_key
from jobs.leases import Appetite
from jobs.listing import JobFilter
from models.job import Job
from models.job_action import JobAction
from models.types import ActionVerb, JobState
from tests.faults import change, do, together
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, claim, complete, read, scalar, submit_texts

Sessions = sessionmaker[Session]
PATH = "/v1/job-actions"
QUEUED = JobFilter(states=frozenset({JobState.QUEUED}))
KEY = {"Idempotency-Key": "action 1"}


def submit(api: TestClient, count: int = 1, **changes: Any) -> list[dict[str, Any]]:
    body = {"type": "embedding", "input": {"texts": ["a ring"]}} | changes
    return [api.post("/v1/jobs", json=body).raise_for_status().json() for _ in range(count)]


def ended(api: TestClient, link: str) -> dict[str, Any]:
    """The action once the duty has done it."""
    until = time.monotonic() + 30
    while (found := api.get(link).raise_for_status().json())["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    return dict(found)


def act(api: TestClient, action: str, expected: int, **wanted: Any) -> dict[str, Any]:
    body = {"action": action, "filter": wanted, "expected_count": expected}
    answer = api.post(PATH, json=body)
    assert answer.status_code == 202, answer.json()
    assert answer.headers["Location"] == f"{PATH}/{answer.json()['id']}"
    return ended(api, answer.headers["Location"])


def finish(sessions: Sessions, items: int = 1, failing: tuple[int, ...] = ()) -> None:
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert complete(sessions, held, failing=failing)


def test_a_dry_run_counts_and_does_nothing(api: TestClient, sessions: Sessions) -> None:
    submit(api, 2, tags={"set": "A"})
    submit(api)
    body = {"action": "cancel", "filter": {"tags": {"set": "A"}}, "dry_run": True}
    assert (api.post(PATH, json=body).status_code, api.post(PATH, json=body).json()) == (200, {"count": 2})
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 0
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE state = 'queued'") == 3


def test_jobs_are_cancelled_by_what_they_are(api: TestClient, sessions: Sessions) -> None:
    tagged = submit(api, 3, tags={"set": "A"})
    (other,) = submit(api)
    finish(sessions)
    found = act(api, "cancel", 3, tags={"set": "A"})
    assert (found["matched"], found["done"], found["skipped"]) == (3, 2, 1), "one had ended"
    assert found["filter"] == {"tags": {"set": "A"}}
    states = [api.get(job["links"]["self"], headers={"Prefer": "wait=20"}).json()["state"] for job in tagged]
    assert states == ["succeeded", "cancelled", "cancelled"]
    assert api.get(other["links"]["self"]).json()["state"] == "queued"


def test_jobs_are_tried_again_or_deleted(api: TestClient, sessions: Sessions) -> None:
    failed = submit(api, 2)
    finish(sessions, 2, failing=(0,))
    (fine,) = submit(api)
    finish(sessions)
    (waiting,) = submit(api)
    found = act(api, "retry", 4, type=["embedding"])
    assert (found["done"], found["skipped"]) == (2, 2)
    retried = [job for job in api.get("/v1/jobs").json()["items"] if job["retry_of"]]
    assert {job["retry_of"] for job in retried} == {job["id"] for job in failed}
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE key_id IS NULL") == 0
    found = act(api, "delete", 3, state=["failed", "succeeded"])
    assert (found["done"], found["skipped"]) == (3, 0)
    for job in (*failed, fine):
        assert_problem(api.get(job["links"]["self"]), 410, "job-deleted")
    assert len(api.get("/v1/jobs", params={"state": "queued"}).json()["items"]) == 3
    assert api.get(waiting["links"]["self"]).status_code == 200


def test_what_is_submitted_later_is_left_alone(sessions: Sessions) -> None:
    first = submit_texts(sessions)
    with sessions.begin() as session:
        accepted = actions.accept(session, TENANT, Wish(ActionVerb.CANCEL, QUEUED, 1))
    second, theirs = submit_texts(sessions), submit_texts(sessions, tenant="another")
    run(sessions)
    states = [read(sessions, job_id).state for job_id in (first, second, theirs)]
    assert states == ["cancelling", "queued", "queued"]
    with sessions() as session:
        found = session.get_one(JobAction, accepted.id)
    assert (found.state, found.done, found.skipped) == ("done", 1, 0)


@pytest.mark.parametrize("verb", [ActionVerb.DELETE, ActionVerb.RETRY])
def test_what_ends_later_is_left_alone(sessions: Sessions, verb: ActionVerb) -> None:
    later = submit_texts(sessions)
    held = claim(sessions, appetite=Appetite(items=1))
    counted = submit_texts(sessions)
    finish(sessions, failing=(0,))
    failed = JobFilter(states=frozenset({JobState.FAILED}))
    with sessions.begin() as session:
        actions.accept(session, TENANT, Wish(verb, failed, 1))
    assert held is not None
    assert complete(sessions, held, failing=(0,))
    assert read(sessions, later).state == "failed"
    run(sessions)
    assert scalar(sessions, "SELECT done || ' ' || skipped FROM job_actions") == "1 0"
    retried = "SELECT count(*) FROM jobs WHERE retry_of = :id"
    with sessions() as session:
        assert session.get_one(Job, later).deleted_at is None
        assert session.scalar(text(retried), {"id": later}) == 0
        touched = session.get_one(Job, counted).deleted_at or session.scalar(text(retried), {"id": counted})
    assert touched


def test_an_action_goes_on_where_it_stopped(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "JOBS_AT_ONCE", {ActionVerb.CANCEL: 2})
    for _ in range(5):
        submit_texts(sessions)
    with sessions.begin() as session:
        actions.accept(session, TENANT, Wish(ActionVerb.CANCEL, QUEUED, 5))
    # one of them is begun before its turn comes, and is found no more
    change(sessions, "UPDATE jobs SET state = 'running' WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1)")
    duty = actor(sessions)
    assert [do(sessions, duty) for _ in range(4)] == [2, 2, 1, 0]
    assert scalar(sessions, "SELECT done || ' ' || skipped FROM job_actions") == "4 1"


def test_a_retry_waits_for_room_and_holds_up_no_other_action(sessions: Sessions) -> None:
    ended_jobs = [submit_texts(sessions, 2) for _ in range(2)]
    for _ in ended_jobs:
        finish(sessions, 4 // 2, failing=(0, 1))
    assert scalar(sessions, "SELECT count(*) FROM jobs WHERE state = 'failed'") == 2
    failed = JobFilter(states=frozenset({JobState.FAILED}))
    with sessions.begin() as session:
        actions.accept(session, TENANT, Wish(ActionVerb.RETRY, failed, 2))
    narrow = actor(sessions, Quota(items=3))
    assert [do(sessions, narrow) for _ in range(2)] == [1, 0], "the second finds no room"
    waiting = submit_texts(sessions, tenant="another")
    with sessions.begin() as session:
        actions.accept(session, "another", Wish(ActionVerb.CANCEL, QUEUED, 1))
    assert [do(sessions, narrow) for _ in range(3)] == [1, 1, 0]
    assert read(sessions, waiting).state == "cancelling"
    assert scalar(sessions, "SELECT done FROM job_actions WHERE verb = 'retry'") == 1
    finish(sessions, 2)
    assert [do(sessions, narrow) for _ in range(3)] == [1, 1, 0]
    assert scalar(sessions, "SELECT done || ' ' || skipped FROM job_actions WHERE verb = 'retry'") == "2 0"
    clocks = "SELECT count(*) FROM flows WHERE clock > (SELECT sum(cost) FROM jobs)"
    assert scalar(sessions, clocks) == 0, "what found no room was not charged"


FAULTS = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {}; RETURN OLD; END $$;
    CREATE TRIGGER fail BEFORE DELETE ON job_inputs FOR EACH ROW
    WHEN (OLD.job_id = '{}') EXECUTE FUNCTION fail()"""


@pytest.fixture
def faulty(sessions: Sessions) -> Iterator[Callable[[str, uuid.UUID], None]]:
    """Let the deletion of a job's inputs do something else."""
    yield lambda action, job_id: change(sessions, FAULTS.format(action, job_id))
    change(sessions, "DROP FUNCTION IF EXISTS fail CASCADE")


@pytest.mark.parametrize(
    ("fault", "code"), [("PERFORM 1 / 0", "internal"), ("PERFORM pg_sleep(30)", "timed-out")]
)
def test_a_job_that_the_service_fails_at_is_passed_over_and_told(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, faulty: Any, fault: str, code: str
) -> None:
    monkeypatch.setattr(acting, "STATEMENT_SECONDS", 1)
    jobs = submit(api, 3)
    for _ in jobs:
        finish(sessions)
    faulty(fault, uuid.UUID(jobs[1]["id"].removeprefix("job_")))
    found = act(api, "delete", 3, state=["succeeded"])
    assert (found["done"], found["skipped"]) == (2, 1)
    assert (found["error"]["code"], found["error"]["job_id"]) == (code, jobs[1]["id"])
    assert api.get(jobs[1]["links"]["self"]).json()["state"] == "succeeded"


@pytest.mark.parametrize(
    "fault", ["PERFORM pg_terminate_backend(pg_backend_pid())", "RAISE SQLSTATE '40P01'"]
)
def test_a_lost_database_is_no_failure_of_a_job(sessions: Sessions, faulty: Any, fault: str) -> None:
    job_id = submit_texts(sessions)
    finish(sessions)
    with sessions.begin() as session:
        wanted = JobFilter(states=frozenset({JobState.SUCCEEDED}))
        actions.accept(session, TENANT, Wish(ActionVerb.DELETE, wanted, 1))
    faulty(fault, job_id)
    with pytest.raises(DBAPIError):
        do(sessions, actor(sessions))
    assert scalar(sessions, "SELECT skipped FROM job_actions WHERE error IS NULL") == 0
    change(sessions, "DROP FUNCTION fail CASCADE")
    run(sessions)
    assert scalar(sessions, "SELECT done FROM job_actions WHERE error IS NULL") == 1


def test_retries_that_wait_for_room_hide_no_other_tenants_action(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "ACTIONS_LOOKED_AT", 2)
    failed = JobFilter(states=frozenset({JobState.FAILED}))
    for tenant in ("one", "two", "three"):
        submit_texts(sessions, 2, tenant=tenant)
        finish(sessions, 2, failing=(0, 1))
        for _ in range(3):
            with sessions.begin() as session:
                actions.accept(session, tenant, Wish(ActionVerb.RETRY, failed, 1))
        submit_texts(sessions, tenant=tenant)
    waiting = submit_texts(sessions, tenant="another")
    with sessions.begin() as session:
        actions.accept(session, "another", Wish(ActionVerb.CANCEL, QUEUED, 1))
    narrow = actor(sessions, Quota(items=2))
    assert [do(sessions, narrow) for _ in range(2)] == [0, 1], "two wait, then others have their turn"
    assert read(sessions, waiting).state == "cancelling"


def test_actions_of_a_tenant_have_their_turns_by_verb(sessions: Sessions) -> None:
    for _ in range(2):
        submit_texts(sessions)
    finish(sessions)
    ended_jobs = JobFilter(states=frozenset({JobState.SUCCEEDED}))
    with sessions.begin() as session:
        for _ in range(2):
            actions.accept(session, TENANT, Wish(ActionVerb.DELETE, ended_jobs, 1))
        actions.accept(session, TENANT, Wish(ActionVerb.CANCEL, QUEUED, 1))
    for _ in range(2):
        assert do(sessions, actor(sessions)) == 1
    with sessions() as session:
        assert session.scalars(select(JobAction.done).order_by(JobAction.id)).all() == [1, 0, 1]


def test_a_tenant_has_so_many_actions_at_once(
    api: TestClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_RUNNING", 0)
    body = {"action": "cancel", "filter": {"state": ["queued"]}, "expected_count": 0}
    assert_problem(api.post(PATH, json=body), 429, "too-many-actions")
    monkeypatch.setattr(actions, "MAX_RUNNING", 1)
    assert ended(api, api.post(PATH, json=body).raise_for_status().headers["Location"])["done"] == 0


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"filter": {}}, 422, "empty-filter"),
        ({"filter": {"state": []}}, 422, "empty-filter"),
        ({"expected_count": 2}, 409, "count-differs"),
        ({"expected_count": None}, 422, "invalid-request"),
        ({"expected_count": True}, 422, "invalid-request"),
        ({"action": "forget"}, 422, "invalid-request"),
        ({"filter": {"state": ["done"]}}, 422, "invalid-request"),
        ({"filter": {"states": ["queued"]}}, 422, "invalid-request"),
        ({"filter": {"model": ["\x00"]}}, 422, "invalid-request"),
        ({"filter": {"tags": {"a:b": ""}}}, 422, "invalid-request"),
        ({"filter": {"created_after": "2026-01-01T00:00:00"}}, 422, "invalid-request"),
        ({"filter": {"created_after": "soon"}}, 422, "invalid-request"),
        ({"reason": "\x00"}, 422, "invalid-request"),
        ({"filter": {}, "dry_run": True}, 422, "empty-filter"),
    ],
)
def test_an_action_that_cannot_be_is_refused(
    api: TestClient, sessions: Sessions, change: dict[str, Any], status: int, code: str
) -> None:
    submit(api)
    body = {"action": "cancel", "filter": {"state": ["queued"]}, "expected_count": 1} | change
    assert_problem(api.post(PATH, json=body), status, code)
    assert scalar(sessions, "SELECT count(*) FROM job_actions") == 0


def test_more_jobs_than_one_action_takes_are_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_JOBS", 2)
    for _ in range(4):
        submit_texts(sessions)
    with sessions.begin() as session:
        assert actions.count(session, TENANT, QUEUED) == 3, "no more are counted"
        with pytest.raises(TooManyJobsError):
            actions.accept(session, TENANT, Wish(ActionVerb.CANCEL, QUEUED, 3))


def test_an_action_sent_again_is_the_same_one(api: TestClient, sessions: Sessions) -> None:
    submit(api, 2)
    body = {"action": "cancel", "filter": {"type": ["embedding"]}, "expected_count": 2, "reason": "too many"}
    answers = together(*[lambda: api.post(PATH, json=body, headers=KEY)] * 4)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    other = api.post(PATH, json=body | {"reason": "another"}, headers=KEY)
    assert_problem(other, 422, "idempotency-key-reused")
    assert ended(api, answers[0].headers["Location"])["reason"] == "too many"


def test_actions_are_listed_newest_first_and_nobody_sees_what_is_not_theirs(
    api: TestClient, sessions: Sessions
) -> None:
    made = [act(api, "delete", 0, state=["succeeded"])["id"] for _ in range(3)]
    first = api.get(PATH, params={"limit": 2})
    assert [action["id"] for action in first.json()["items"]] == made[:0:-1]
    second = api.get(first.links["next"]["url"]).json()
    assert ([action["id"] for action in second["items"]], second["next_page_token"]) == (made[:1], None)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    theirs = {"Authorization": f"Bearer {foreign}"}
    assert api.get(PATH, headers=theirs).json()["items"] == []
    for link, headers in ((made[0], theirs), ("act_" + "0" * 32, {}), ("nonsense", {})):
        assert_problem(api.get(f"{PATH}/{link}", headers=headers), 404, "not-found")


def actor(sessions: Sessions, quota: Quota | None = None) -> Actor:
    # no work is invited here: a broker that is nowhere costs nothing
    return Actor(sessions, Catalog(), quota or Quota(), lambda: 0, Inviter("redis://127.0.0.1:1/0"))


def run(sessions: Sessions) -> None:
    duty = actor(sessions)
    while do(sessions, duty):
        pass
