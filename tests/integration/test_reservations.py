"""Room that is set aside for retries and rescores: it counts while they are stored, and once only."""

import base64
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from api.settings import ApiSettings
from engine.catalog import Catalog
from jobs import admission, retry
from jobs.admission import Quota, read_held
from jobs.errors import QuotaExceededError
from jobs.leases import Appetite
from jobs.reservations import Held, forget_reservations, reserve
from jobs.retry import Retry, RetryScope
from jobs.units import Admission
from tests.faults import change, do, in_thread, together
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import TENANT, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
KEEPING = {"outputs": ["pooled", "embeddings"]}
CATALOG = Catalog()


@pytest.fixture
def api(settings: ApiSettings, key: str) -> Iterator[TestClient]:
    """A tenant of which three items may wait."""
    small = settings.model_copy(update={"max_tenant_items": 3})
    with TestClient(create_app(small), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@contextmanager
def nothing_stored(sessions: Sessions) -> Iterator[None]:
    """Let whoever stores the items of a job wait."""
    with sessions.begin() as session:
        session.execute(text("LOCK TABLE job_inputs IN SHARE MODE"))
        yield


def finish(sessions: Sessions, items: int, *, failing: tuple[int, ...] = ()) -> None:
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert complete(sessions, held, failing=failing)


def submit(api: TestClient, count: int = 2) -> Any:
    body = {"type": "embedding", "input": {"texts": [f"text {number}" for number in range(count)]}}
    return api.post("/v1/jobs", json=body)


def failed(api: TestClient, sessions: Sessions) -> Callable[..., Any]:
    """What tries a job of two items again."""
    job = submit(api).raise_for_status().json()
    finish(sessions, 2, failing=(0, 1))
    return lambda **headers: api.post(job["links"]["retry"], json={}, headers=headers)


def kept(api: TestClient, sessions: Sessions, picture: bytes) -> Callable[..., Any]:
    """What rescores a lens of two pictures."""
    images = [{"data": base64.b64encode(picture).decode()}] * 2
    body = {"type": "logit_lens", "labels": ["a ring"], "input": {"images": images}, "options": KEEPING}
    job = api.post("/v1/jobs", json=body).raise_for_status().json()
    finish(sessions, 2)
    again = {"type": "rescore", "labels": ["a heart"], "input": {"from_job": job["id"]}}
    return lambda **headers: api.post("/v1/jobs", json=again, headers=headers)


def waiting(api: TestClient) -> int:
    return int(api.get("/v1/usage").json()["quotas"]["items"]["held"])


@pytest.mark.parametrize("kind", ["retry", "rescore"])
def test_what_is_being_stored_counts_against_the_quota(
    api: TestClient, sessions: Sessions, picture: bytes, kind: str
) -> None:
    first, second = (
        failed(api, sessions) if kind == "retry" else kept(api, sessions, picture) for _ in range(2)
    )
    with ThreadPoolExecutor(1) as pool:
        with nothing_stored(sessions):
            storing = in_thread(pool, sessions, first)
            for answer in (second(), submit(api)):
                refused = assert_problem(answer, 429, "quota-exceeded")
                assert refused["detail"].startswith("2 items of yours wait or run, this job has 2")
            assert waiting(api) == 2
        assert storing.result().status_code == 202
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0
    assert waiting(api) == 2, "it counts itself, and only once"


def test_twins_share_what_is_set_aside(api: TestClient, sessions: Sessions) -> None:
    again = failed(api, sessions)
    key = {"Idempotency-Key": "again 1"}
    answers = together(*[lambda: again(**key)] * 4)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0
    clock, costs = "SELECT clock FROM flows", "SELECT sum(cost) FROM jobs"
    assert scalar(sessions, clock) == pytest.approx(scalar(sessions, costs) / 8), "charged once"


def test_what_is_not_stored_after_all_is_given_back(api: TestClient, sessions: Sessions) -> None:
    again = failed(api, sessions)
    charged = scalar(sessions, "SELECT clock FROM flows")
    # so that two items are found where none may be
    change(sessions, "DELETE FROM job_inputs")
    assert_problem(again(), 410, "results-expired")
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0
    assert scalar(sessions, "SELECT clock FROM flows") == pytest.approx(charged)


def admit(
    sessions: Sessions, job_id: uuid.UUID, name: str, quota: Quota | None = None
) -> tuple[Retry, Admission]:
    with sessions.begin() as session:
        found = retry.find_retry(session, TENANT, job_id, RetryScope.ALL, None)
        return found, retry.admit_retry(session, found, CATALOG, quota or Quota(), reserve_as=name)


def held(sessions: Sessions) -> Held:
    with sessions() as session:
        return read_held(session, TENANT)


def test_large_jobs_of_two_models_see_each_other(sessions: Sessions) -> None:
    one = submit_texts(sessions, 2)
    finish(sessions, 2)
    other = submit_texts(sessions, 2)
    finish(sessions, 2)
    change(sessions, "UPDATE jobs SET model = 'google/siglip-base-patch16-224' WHERE id = :id", id=other)

    def go(job_id: uuid.UUID) -> bool:
        try:
            admit(sessions, job_id, str(job_id), Quota(items=3))
        except QuotaExceededError:
            return False
        return True

    assert sorted(together(lambda: go(one), lambda: go(other))) == [False, True]


@pytest.mark.parametrize("order", [(1, 90), (90, 1)])
def test_of_those_of_one_name_the_largest_counts(sessions: Sessions, order: tuple[int, int]) -> None:
    with sessions.begin() as session:
        for items in order:
            reserve(session, TENANT, "a key", Held(items, 0, 2.0 * items))
        reserve(session, TENANT, "another", Held(5, 7, 1.0))
    with sessions() as session:
        assert read_held(session, TENANT) == Held(95, 7, 181.0)


def test_a_reservation_whose_process_is_gone_ends(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2)
    finish(sessions, 2)
    found, admitted = admit(sessions, job_id, "lost")
    assert held(sessions) == Held(2, found.input_bytes, admitted.cost(2))
    with pytest.raises(QuotaExceededError):
        admit(sessions, job_id, "another", Quota(items=3))
    assert do(sessions, forget_reservations) == 0
    change(sessions, "UPDATE reservations SET until = now() - interval '1 second'")
    assert held(sessions) == Held(0, 0, 0.0)
    admit(sessions, job_id, "another", Quota(items=3))
    assert do(sessions, forget_reservations) == 1
    assert held(sessions).items == 2
    # what is late all the same is stored, and counts itself
    with sessions.begin() as session:
        retry.store_retry(session, found, admitted)
    assert held(sessions).items == 4


def test_what_is_set_aside_is_given_up_once(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 2)
    finish(sessions, 2)
    twins = [admit(sessions, job_id, "a key", Quota(items=3)) for _ in range(2)]
    assert held(sessions).items == 2
    with sessions.begin() as session:
        admission.give_back(session, twins[0][1], 2)
    assert held(sessions).items == 2, "the other twin is still at it"
    with sessions.begin() as session:
        retry.store_retry(session, *twins[1])
    assert held(sessions).items == 2
