"""Many jobs tried again by one wish: each admitted, then stored, and nobody held up by it."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import acting, actions
from jobs.acting import Actor, OvertakenError
from jobs.actions import Wish
from jobs.admission import Quota
from jobs.broker import Inviter
from jobs.keys import create_key
from jobs.leases import Appetite
from jobs.listing import JobFilter
from jobs.submission import Submission, TextItem
from jobs.usage import Counts, KeyDay, record
from models.types import ActionVerb, JobState, JobType
from tests.faults import change, do, in_thread, together
from tests.ledger import MODEL, TENANT, admit_alone, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
FAILED = JobFilter(states=frozenset({JobState.FAILED}))
DONE = "SELECT done || ' ' || skipped FROM job_actions"
RETRIES = "SELECT count(*) FROM jobs WHERE retry_of IS NOT NULL"
NOTHING_STORED = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {}; RETURN NEW; END $$;
    CREATE TRIGGER fail BEFORE INSERT ON job_inputs EXECUTE FUNCTION fail()"""


@pytest.fixture
def key_id(sessions: Sessions) -> uuid.UUID:
    with sessions.begin() as session:
        return create_key(session, name="tests", tenant=TENANT).row.id


@pytest.fixture
def actor(sessions: Sessions, key_id: uuid.UUID) -> Iterator[Actor]:
    """What tries two failed jobs again, for the key."""
    for _ in range(2):
        submit_texts(sessions)
        held = claim(sessions, appetite=Appetite(items=1))
        assert held is not None
        assert complete(sessions, held, failing=(0,))
    with sessions.begin() as session:
        actions.accept(session, TENANT, Wish(ActionVerb.RETRY, FAILED, 2), key_id=key_id)
    # a broker that is nowhere costs nothing
    yield Actor(sessions, Catalog(), Quota(), lambda: 0, Inviter("redis://127.0.0.1:1/0"))
    change(sessions, "DROP FUNCTION IF EXISTS fail CASCADE")


def today() -> date:
    return datetime.now(UTC).date()


def test_storing_a_job_holds_up_neither_its_flow_nor_its_key(
    sessions: Sessions, actor: Actor, key_id: uuid.UUID
) -> None:
    other = Submission(JobType.EMBEDDING, MODEL, [TextItem("a ring")], {"normalize": True})
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            session.execute(text("LOCK TABLE job_inputs IN SHARE MODE"))
            storing = in_thread(pool, sessions, lambda: do(sessions, actor))
            # neither waits: what both need is held by nobody
            with sessions.begin() as beside:
                beside.execute(text("SET LOCAL lock_timeout = '1s'"))
                record(beside, {KeyDay(key_id, today()): Counts(requests=1)})
            change(sessions, "SET LOCAL lock_timeout = '1s'; UPDATE flows SET clock = clock")
            admit_alone(sessions, other)
        assert storing.result() == 1
    counted = "SELECT requests || ' ' || jobs || ' ' || items FROM key_usage"
    assert scalar(sessions, counted) == "1 1 1"


@pytest.mark.parametrize("bound", ["STATEMENT_SECONDS", "STORE_SECONDS"])
def test_a_job_that_takes_too_long_is_given_back_and_passed_over(
    sessions: Sessions, actor: Actor, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(acting, bound, 1)
    charged = scalar(sessions, "SELECT clock FROM flows")
    change(sessions, NOTHING_STORED.format("PERFORM pg_sleep(30)"))
    assert [do(sessions, actor) for _ in range(4)] == [1, 1, 1, 0]
    assert scalar(sessions, DONE) == "0 2"
    assert scalar(sessions, "SELECT error ->> 'code' FROM job_actions") == "timed-out"
    assert scalar(sessions, "SELECT clock FROM flows") == pytest.approx(charged)
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0
    assert scalar(sessions, "SELECT count(*) FROM key_usage") == 0


@pytest.mark.parametrize(
    "fault",
    ["PERFORM pg_terminate_backend(pg_backend_pid())", "RAISE SQLSTATE '40P01'", "RAISE SQLSTATE '55P03'"],
)
def test_a_database_that_is_lost_or_busy_loses_no_job_of_an_action(
    sessions: Sessions, actor: Actor, fault: str
) -> None:
    charged = scalar(sessions, "SELECT clock FROM flows")
    change(sessions, NOTHING_STORED.format(fault))
    with pytest.raises(DBAPIError):
        do(sessions, actor)
    assert scalar(sessions, DONE) == "0 0"
    assert scalar(sessions, "SELECT clock FROM flows") == pytest.approx(charged)
    change(sessions, "DROP FUNCTION fail CASCADE")
    assert [do(sessions, actor) for _ in range(4)] == [1, 1, 1, 0]
    assert scalar(sessions, DONE) == "2 0"
    assert scalar(sessions, RETRIES) == 2


def test_what_was_done_of_an_action_is_kept_when_its_duty_is_cut_off(
    sessions: Sessions, actor: Actor
) -> None:
    with sessions() as session:
        assert actor(session) == 1
        session.rollback()
    assert scalar(sessions, DONE) == "1 0"
    assert scalar(sessions, RETRIES) == 1


def test_two_processes_at_the_same_action_make_no_job_twice(sessions: Sessions, actor: Actor) -> None:
    def go() -> int:
        try:
            return do(sessions, actor)
        except OvertakenError:
            return 0

    # without the lock that keeps them apart, as if one had been away for too long
    while scalar(sessions, "SELECT count(*) FROM job_actions WHERE state = 'running'"):
        together(go, go, go)
    assert scalar(sessions, DONE) == "2 0"
    assert scalar(sessions, RETRIES) == 2
    assert scalar(sessions, "SELECT jobs FROM key_usage") == 2
    assert scalar(sessions, "SELECT count(*) FROM reservations") == 0
