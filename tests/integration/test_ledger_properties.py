"""Whatever happens in whatever order: no item is lost, none is counted twice, and what ended stays as it was.

Hypothesis draws the events; SQL checks the invariants after each. With `LENSQUEUE_TEST_PROFILE=long`
many more are drawn.
"""

import os
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import deadlines, leases, recovery
from jobs.errors import AlreadyEndedError
from jobs.leases import Appetite, Claim
from jobs.submit import Terms
from models.tables import metadata
from models.types import JobState, Priority
from tests.faults import cancel_job, change, do, judge, let_leases_run_out, report_crash
from tests.ledger import assert_settled, claim, complete, submit_texts

LONG: Final = os.environ.get("LENSQUEUE_TEST_PROFILE") == "long"
WORKERS: Final = [uuid.UUID(int=number) for number in (1, 2, 3)]
TENANTS: Final = ("one", "other")
DUTIES: Final[list[Callable[[Session], int]]] = [
    recovery.fail_hopeless,
    recovery.judge_struck,
    deadlines.continue_cancels,
    deadlines.expire_unstarted,
    deadlines.stop_overdue,
]

NEVER: Final = {
    "counted more than there is": "SELECT id FROM jobs WHERE succeeded + failed + dropped > total",
    "ended, though not all is counted, or the other way round": """
        SELECT id FROM jobs WHERE (ended_at IS NOT NULL) <> (succeeded + failed + dropped = total)
           OR (ended_at IS NULL) <> (state IN ('queued', 'running', 'cancelling'))""",
    "an item neither waiting, held nor counted": """
        SELECT id FROM jobs
        WHERE total <> succeeded + failed + dropped
            + (SELECT coalesce(sum(items), 0) FROM work WHERE job_id = jobs.id)""",
    "a counted item without its result, or a result that is not counted": """
        SELECT jobs.id FROM jobs LEFT JOIN results ON results.job_id = jobs.id
        GROUP BY jobs.id
        HAVING jobs.succeeded <> count(*) FILTER (WHERE results.state = 'succeeded')
            OR jobs.failed <> count(*) FILTER (WHERE results.state = 'failed')""",
    "a result of an item that still waits": """
        SELECT work.id FROM work JOIN job_inputs USING (job_id, unit),
            jsonb_array_elements(job_inputs.items) AS waiting (item), results
        WHERE results.job_id = work.job_id AND results.index = (waiting.item ->> 'index')::int""",
    "work that is not its input": """
        SELECT work.id FROM work LEFT JOIN job_inputs USING (job_id, unit)
        WHERE work.items IS DISTINCT FROM jsonb_array_length(job_inputs.items)""",
    "an item that is in no unit, or in two": """
        SELECT job_id FROM job_inputs, jsonb_array_elements(items) AS unit (item), jobs
        WHERE jobs.id = job_id GROUP BY job_id, total
        HAVING count(*) <> total OR count(DISTINCT unit.item -> 'index') <> total""",
    "a lease of nothing": """
        SELECT token FROM leases WHERE NOT EXISTS (SELECT 1 FROM work WHERE lease_token = token)""",
    "work of a job that has ended": """
        SELECT work.id FROM work JOIN jobs ON jobs.id = job_id WHERE ended_at IS NOT NULL""",
    "an open try at work that nobody holds, or work held without one": """
        SELECT job_id FROM (SELECT job_id, unit, lease_token FROM attempts WHERE ended_at IS NULL) AS open
        FULL JOIN (SELECT job_id, unit, lease_token FROM work WHERE lease_token IS NOT NULL) AS held
        USING (job_id, unit, lease_token) WHERE open.unit IS NULL OR held.unit IS NULL""",
    "work that is to be paid for twice, or a place before the first": """
        SELECT work.id FROM work WHERE vtime < 0 OR cost < 0""",
    "an item that was blamed before three workers died of it": """
        SELECT job_id FROM results WHERE error ->> 'code' = 'worker-crashed' AND (
            SELECT count(*) FROM attempts
            WHERE outcome = 'crashed' AND judged AND attempts.job_id = results.job_id) < 3""",
}
"""What must not be, by the query that would find it."""
FOUND: Final = " UNION ALL ".join(
    f"SELECT '{what}' WHERE EXISTS ({query})" for what, query in NEVER.items()
).replace("::", r"\:\:")


class Ledger(RuleBasedStateMachine):
    """The ledger, its workers, and all that may happen to them."""

    sessions: sessionmaker[Session]

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[uuid.UUID, Claim]] = []
        self.jobs: list[tuple[uuid.UUID, str]] = []
        self.cancelled: set[uuid.UUID] = set()
        self.ended: dict[uuid.UUID, tuple[Any, ...]] = {}

    @initialize()
    def begin_with_nothing(self) -> None:
        for table in reversed(metadata.sorted_tables):
            change(self.sessions, f"DELETE FROM {table.name}")  # noqa: S608 - our own tables' names
        # a person's and a large one, so that no run of events is about nothing
        self.submit(2, None, TENANTS[0], timedelta(hours=1), timedelta(hours=1), normalize=True)
        self.submit(40, Priority.BULK, TENANTS[1], None, timedelta(hours=1), normalize=True)

    @rule(
        count=st.sampled_from([1, 1, 2, 5, 40]),
        priority=st.sampled_from([None, *Priority]),
        tenant=st.sampled_from(TENANTS),
        start_within=st.none() | st.just(timedelta(hours=1)),
        run_timeout=st.none() | st.just(timedelta(hours=1)),
        normalize=st.booleans(),
    )
    def submit(
        self,
        count: int,
        priority: Priority | None,
        tenant: str,
        start_within: timedelta | None,
        run_timeout: timedelta | None,
        normalize: bool,
    ) -> None:
        terms = Terms(start_within, run_timeout)
        job_id = submit_texts(
            self.sessions,
            # a person's forty items would be forty units, and tell no more
            count if priority is not Priority.INTERACTIVE else min(count, 5),
            tenant=tenant,
            priority=priority,
            terms=terms,
            options={"normalize": normalize},
        )
        self.jobs.append((job_id, tenant))

    @rule(
        workers=st.lists(st.sampled_from(WORKERS), min_size=1, max_size=4),
        items=st.integers(1, 8),
        memory=st.sampled_from([1, 2**62]),
    )
    def claim(self, workers: list[uuid.UUID], items: int, memory: int) -> None:
        for worker_id in workers:
            held = claim(self.sessions, worker_id=worker_id, appetite=Appetite(items, memory))
            if held is not None:
                self.held.append((worker_id, held))
                assert len(held.units) == 1 or held.size == len(held.units) <= items

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.integers(1, 4))
    def complete(self, data: st.DataObject, share: int) -> None:
        """Complete what is or was held, with every so-manieth item failed."""
        _, held = data.draw(st.sampled_from(self.held))
        alive = self.is_leased(held)
        assert complete(self.sessions, held, failing=range(0, 1_000, share)) == alive

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        _, held = data.draw(st.sampled_from(self.held))
        alive = self.is_leased(held)
        with self.sessions.begin() as session:
            assert (leases.renew(session, held.token) is not leases.Renewal.LOST) == alive

    @precondition(lambda self: self.held)
    @rule(data=st.data(), counts=st.booleans())
    def release(self, data: st.DataObject, counts: bool) -> None:
        _, held = data.draw(st.sampled_from(self.held))
        alive = self.is_leased(held)
        with self.sessions.begin() as session:
            assert leases.release(session, held.token, "drawn", counts=counts) == alive

    @precondition(lambda self: self.held)
    @rule(data=st.data(), guilty=st.sampled_from([None, True, True, False]))
    def crash(self, data: st.DataObject, guilty: bool | None) -> None:
        """A worker crashes, and its canary speaks at once or, for now, not."""
        worker_id, _ = data.draw(st.sampled_from(self.held))
        report_crash(self.sessions, worker_id)
        if guilty is not None:
            judge(self.sessions, worker_id, guilty=guilty)

    @rule(worker_id=st.sampled_from(WORKERS), guilty=st.booleans())
    def judge(self, worker_id: uuid.UUID, guilty: bool) -> None:
        judge(self.sessions, worker_id, guilty=guilty)

    @rule()
    def lose_all_leases(self) -> None:
        let_leases_run_out(self.sessions)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id, tenant = data.draw(st.sampled_from(self.jobs))
        try:
            cancel_job(self.sessions, job_id, tenant)
            self.cancelled.add(job_id)
        except AlreadyEndedError:
            assert job_id in self.ended

    @rule()
    def let_two_hours_pass(self) -> None:
        hours = """UPDATE jobs SET start_by = start_by - interval '2 hours',
                                   run_until = run_until - interval '2 hours' WHERE ended_at IS NULL"""
        change(self.sessions, hours)
        change(self.sessions, "UPDATE work SET run_at = now()")

    @rule(losses=st.integers(1, recovery.MAX_LOSSES))
    def lose_often(self, losses: int) -> None:
        change(self.sessions, "UPDATE work SET losses = :losses WHERE unit = 0", losses=losses)

    @rule(duty=st.sampled_from(DUTIES))
    def do_a_duty(self, duty: Callable[[Session], int]) -> None:
        do(self.sessions, duty)

    @invariant()
    def nothing_is_what_must_not_be(self) -> None:
        with self.sessions() as session:
            assert session.scalars(text(FOUND)).all() == []

    @invariant()
    def what_ended_stays_as_it_was(self) -> None:
        with self.sessions() as session:
            rows = session.execute(text("SELECT * FROM jobs WHERE ended_at IS NOT NULL")).all()
        now = {row.id: tuple(row) for row in rows}
        assert {job_id: now.get(job_id) for job_id in self.ended} == self.ended
        assert [row.state for row in rows] == [self.expected(row) for row in rows]
        self.ended = now

    def teardown(self) -> None:
        """Whatever was left: with one worker and the duties, everything comes to an end."""
        let_leases_run_out(self.sessions)
        for _ in range(1_000):
            change(self.sessions, "UPDATE work SET run_at = now()")
            for duty in DUTIES:
                do(self.sessions, duty)
            held = claim(self.sessions, appetite=Appetite(items=32))
            if held is None:
                break
            assert complete(self.sessions, held)
        self.nothing_is_what_must_not_be()
        self.what_ended_stays_as_it_was()
        assert len(self.ended) == len(self.jobs)
        assert_settled(self.sessions)

    def expected(self, job: Any) -> JobState:
        """How a job of these counts must have ended."""
        if job.id in self.cancelled:
            return JobState.CANCELLED
        if job.succeeded:
            return JobState.SUCCEEDED if job.succeeded == job.total else JobState.PARTIAL
        return JobState.FAILED if job.started_at else JobState.EXPIRED

    def is_leased(self, held: Claim) -> bool:
        with self.sessions() as session:
            found = session.execute(text("SELECT 1 FROM leases WHERE token = :token"), {"token": held.token})
            return found.first() is not None


@pytest.mark.timeout(3_600 if LONG else 120)
def test_no_order_of_events_loses_or_doubles_an_item(sessions: sessionmaker[Session]) -> None:
    machine = type("Machine", (Ledger,), {"sessions": sessions})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=1_000 if LONG else 12,
            stateful_step_count=80 if LONG else 30,
            # a failure of the short one is told as it was drawn: to shrink it takes minutes
            phases=list(Phase) if LONG else [Phase.generate],
            deadline=None,
            database=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
