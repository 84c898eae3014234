"""Lists of jobs: what they hold, page by page, and how they are read."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Executable, event
from sqlalchemy.orm import Session, sessionmaker

from jobs import listing
from jobs.actions import running_actions
from jobs.keys import create_key
from jobs.listing import JobFilter
from jobs.tenants import ONLY_TENANT, TENANTS
from models.types import JobState, JobType
from tests.faults import cancel_job, change
from tests.integration.test_bad_requests import assert_problem
from tests.integration.test_plans import indexes, nodes, rows_read
from tests.ledger import MODEL, TENANT, claim, complete, scalar

if TYPE_CHECKING:
    from fastapi import FastAPI

Sessions = sessionmaker[Session]
MANY = 100_000
PAGE = 51


def submit(api: TestClient, **changes: Any) -> dict[str, Any]:
    body = {"type": "embedding", "input": {"texts": ["a ring"]}} | changes
    job: dict[str, Any] = api.post("/v1/jobs", json=body).raise_for_status().json()
    return job


def pages(api: TestClient, **query: Any) -> Iterator[list[str]]:
    """The ids of each page, by the links between them."""
    answer = api.get("/v1/jobs", params=query)
    while True:
        page = answer.raise_for_status().json()
        yield [job["id"] for job in page["items"]]
        assert ("Link" in answer.headers) is (page["next_page_token"] is not None)
        if page["next_page_token"] is None:
            return
        assert page["next_page_token"] in answer.links["next"]["url"]
        answer = api.get(answer.links["next"]["url"])


def listed(api: TestClient, **query: Any) -> list[str]:
    return [job_id for page in pages(api, **query) for job_id in page]


def test_a_list_has_what_a_poll_shows_newest_first(api: TestClient, sessions: Sessions) -> None:
    jobs = [submit(api, tags={"set": "A"}) for _ in range(3)]
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    shown = api.get("/v1/jobs").json()
    assert shown["next_page_token"] is None
    polls = [api.get(job["links"]["self"]).json() for job in reversed(jobs)]
    assert polls[-1]["provenance"] is not None
    assert shown["items"] == [poll | {"provenance": None} for poll in polls]


def test_pages_are_stable_while_jobs_are_submitted(api: TestClient) -> None:
    jobs = [submit(api)["id"] for _ in range(5)]
    found = pages(api, limit=2, model=[MODEL, "nobody/knows"])
    first = next(found)
    submit(api)
    assert [first, *found] == [jobs[:-3:-1], jobs[2:0:-1], jobs[:1]]


def test_jobs_are_found_by_what_they_are(api: TestClient, sessions: Sessions) -> None:
    other = submit(api, model="google/siglip-base-patch16-224")["id"]
    both = submit(api, tags={"set": "A", "owner": "me: myself"})["id"]
    tagged = submit(api, tags={"set": "A"})["id"]
    plain = submit(api)["id"]
    cancel_job(sessions, uuid.UUID(plain.removeprefix("job_")))
    assert listed(api) == [plain, tagged, both, other]
    assert listed(api, state="cancelled") == [plain]
    assert listed(api, state=["cancelled", "queued"]) == [plain, tagged, both, other]
    assert listed(api, state=["running", "queued"], model=MODEL) == [tagged, both]
    assert listed(api, model="google/siglip-base-patch16-224") == [other]
    assert listed(api, tag="set:A") == [tagged, both]
    assert listed(api, tag=["set:A", "owner:me: myself"]) == [both]
    assert listed(api, tag=["set:A", "owner:me"]) == []
    assert listed(api, tag="set:A", state="queued", model=[MODEL], type="embedding") == [tagged, both]
    assert listed(api, type=["logit_lens", "rescore"]) == []
    assert listed(api, type=["logit_lens", "embedding"]) == [plain, tagged, both, other]


def test_a_time_is_compared_with_what_a_job_says_itself(api: TestClient, sessions: Sessions) -> None:
    jobs = [submit(api) for _ in range(3)]
    middle = jobs[1]["created_at"]
    assert listed(api, created_after=middle) == [jobs[2]["id"]]
    assert listed(api, created_before=middle) == [jobs[0]["id"]]
    long_ago, far = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
    assert len(listed(api, created_after=long_ago, created_before=far)) == 3
    # a transaction that waited for a while before it made the job's id
    change(sessions, "UPDATE jobs SET created_at = created_at - interval '30 seconds'")
    now = datetime.now(UTC)
    assert len(listed(api, created_before=(now - timedelta(seconds=20)).isoformat())) == 3


def test_nobody_lists_what_is_not_theirs(api: TestClient, sessions: Sessions) -> None:
    submit(api)
    with sessions.begin() as session:
        foreign = create_key(session, name="foreign", tenant="somebody else").key
    answer = api.get("/v1/jobs", headers={"Authorization": f"Bearer {foreign}"})
    assert answer.json() == {"items": [], "next_page_token": None}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"state": "done"}, "/state/0"),
        ({"tag": "set"}, "/tag"),
        ({"tag": ["set:A", "set:B"]}, "/tag"),
        ({"tag": "set:\x00"}, "/tag/0"),
        ({"model": "\x00"}, "/model/0"),
        ({"model": ["a"] * 17}, "/model"),
        ({"created_after": "2026-01-01T00:00:00"}, "/created_after"),
        ({"page_token": "nonsense"}, "/page_token"),
        ({"page_token": "ä" * 16}, "/page_token"),
        ({"limit": 201}, "/limit"),
    ],
)
def test_a_list_that_cannot_be_is_refused(api: TestClient, query: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(api.get("/v1/jobs", params=query), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_page_costs_as_many_statements_as_a_poll(api: TestClient) -> None:
    jobs = [submit(api) for _ in range(5)]
    seen: list[str] = []
    engine = cast("FastAPI", api.app).state.services.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))

    def cost(link: str) -> int:
        seen.clear()
        assert api.get(link).status_code == 200
        return sum("sum(work.items)" not in statement for statement in seen)

    # the key, the job or jobs, and what they have before them
    assert (cost(jobs[0]["links"]["self"]), cost("/v1/jobs")) == (3, 3)


def fill(sessions: Sessions) -> None:
    """Jobs of two tenants; one in a thousand failed, one in a thousand is of another model, or has a tag."""
    change(
        sessions,
        """INSERT INTO jobs (tenant, type, state, model, options, tags, total, failed, succeeded, ended_at)
           SELECT CASE WHEN n % 4 = 0 THEN 'another' ELSE :tenant END, 'embedding',
                  CASE WHEN n % 1001 = 1 THEN 'failed' ELSE 'succeeded' END,
                  CASE WHEN n % 1001 = 3 THEN 'rare' ELSE :model END, '{}',
                  CASE WHEN n % 1001 = 5 THEN '{"set": "rare"}'::jsonb ELSE '{"set": "A"}' END,
                  1, (n % 1001 = 1)::int, (n % 1001 <> 1)::int, now()
           FROM generate_series(1, :many) AS n""",
        tenant=TENANT,
        model=MODEL,
        many=MANY,
    )


def plan(
    sessions: Sessions, wanted: JobFilter, before: uuid.UUID | None, tenant: str | None = TENANT
) -> list[dict[str, Any]]:
    return plan_of(sessions, listing.jobs_page(tenant, wanted, before=before, limit=PAGE - 1))


def plan_of(sessions: Sessions, statement: Executable) -> list[dict[str, Any]]:
    """How a statement was done, as it is sent."""

    def explain(_: Any, __: Any, asked: str, values: Any, *___: Any) -> tuple[str, Any]:
        return f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}", values

    with sessions() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", explain, retval=True)
        cursor = connection.execute(statement).cursor
        assert cursor is not None
        ((explained,),) = cursor.fetchall()
    return list(nodes(explained[0]["Plan"]))


def test_a_page_is_read_by_index_however_many_jobs_there_are(sessions: Sessions) -> None:
    fill(sessions)
    states, models = frozenset(JobState), frozenset({MODEL, "rare"})
    rare_state, rare_model = frozenset({JobState.FAILED, JobState.PARTIAL}), frozenset({"rare"})
    rare_tag, tag = {"set": "rare"}, {"set": "A"}
    every_type = frozenset(JobType)
    soon, ago = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) - timedelta(days=1)
    cheap = [
        JobFilter(),
        JobFilter(states=states),
        JobFilter(states=rare_state),
        JobFilter(models=models),
        JobFilter(models=rare_model),
        JobFilter(states=states, models=models),
        JobFilter(states=rare_state, models=frozenset({MODEL})),
        JobFilter(states=frozenset({JobState.SUCCEEDED}), models=rare_model),
        JobFilter(tags=tag),
        JobFilter(types=every_type),
        JobFilter(types=every_type, states=rare_state, models=models),
        JobFilter(tags=rare_tag),
        JobFilter(tags=rare_tag, states=frozenset({JobState.SUCCEEDED})),
        JobFilter(created_after=soon),
        JobFilter(created_before=ago),
        JobFilter(created_after=ago, created_before=soon, states=rare_state),
    ]
    middle = scalar(sessions, "SELECT id FROM jobs ORDER BY id OFFSET :half LIMIT 1", half=MANY // 2)
    change(sessions, "ANALYZE jobs")
    for wanted in cheap:
        for before in (None, middle):
            found = plan(sessions, wanted, before)
            assert indexes(found), wanted
            assert not any(node["Node Type"] == "Seq Scan" for node in found), wanted
            most = max(1, len(wanted.states)) * max(1, len(wanted.models)) * PAGE + PAGE
            # of a rare tag the index tells all there are, which are sorted
            most += 2 * MANY // 1_000 if wanted.tags else 0
            assert rows_read(found, "jobs") <= 2 * most, (wanted, rows_read(found, "jobs"))


def test_those_of_all_tenants_are_listed_and_counted_by_index(sessions: Sessions) -> None:
    fill(sessions)
    rare, absent = frozenset({JobState.FAILED}), frozenset({JobType.DRIFT})
    narrow = [
        JobFilter(states=rare),
        JobFilter(models=frozenset({"rare"})),
        JobFilter(types=absent),
        JobFilter(types=absent, states=frozenset({JobState.SUCCEEDED})),
        JobFilter(types=frozenset({JobType.EMBEDDING})),
    ]
    middle = scalar(sessions, "SELECT id FROM jobs ORDER BY id OFFSET :half LIMIT 1", half=MANY // 2)
    change(sessions, "ANALYZE jobs")
    for tenant, wanted in product((None, TENANT, "another"), [JobFilter(), *narrow]):
        for before in (None, middle):
            found = plan(sessions, wanted, before, tenant)
            assert not any(node["Node Type"] == "Seq Scan" for node in found), (tenant, wanted)
            # of another tenant's rare ones some are passed over
            assert rows_read(found, "jobs") <= 10 * PAGE, (tenant, wanted, rows_read(found, "jobs"))
        if wanted != JobFilter():
            found = plan_of(sessions, listing.count_up_to(tenant, wanted, 20 * PAGE))
            assert not any(node["Node Type"] == "Seq Scan" for node in found), (tenant, wanted)
            # a quarter is another tenant's, of whatever type
            assert rows_read(found, "jobs") <= 5 * 20 * PAGE, (tenant, wanted)


def test_what_is_being_done_and_who_has_jobs_are_told_by_index(sessions: Sessions) -> None:
    change(
        sessions,
        """INSERT INTO job_actions (tenant, verb, state, ended_at, filter, matched, up_to)
           SELECT CASE WHEN n % 2 = 0 THEN :tenant ELSE 'another' END, 'cancel',
                  CASE WHEN n % 1000 < 2 THEN 'running' ELSE 'done' END,
                  CASE WHEN n % 1000 < 2 THEN NULL ELSE now() END, '{}', 1, uuidv7()
           FROM generate_series(1, 10000) AS n""",
        tenant=TENANT,
    )
    change(
        sessions,
        """INSERT INTO api_keys (tenant, name, sha256, hint, scopes)
           SELECT CASE WHEN n % 2 = 0 THEN :tenant ELSE 'another' END, '', n, '', '{read}'
           FROM generate_series(1, 10000) AS n""",
        tenant=TENANT,
    )
    change(sessions, "ANALYZE")
    for tenant, running in ((None, 20), (TENANT, 10), ("nobody", 0)):
        found = plan_of(sessions, running_actions(tenant, limit=50))
        assert (rows_read(found, "job_actions"), found[0]["Actual Rows"]) == (running, running)
        assert indexes(found) == {"ix_job_actions_running"}
    found = plan_of(sessions, TENANTS)
    assert found[0]["Actual Rows"] == 2
    assert rows_read(found, "api_keys") == 2
    assert rows_read(plan_of(sessions, ONLY_TENANT), "api_keys") == 2
