"""Whose turn it is, told by the order of claims alone.

The bound is that of start-time fair queueing (Goyal, Vin and Cheng 1996, theorem 1): over any stretch in
which two flows wait, what each was served divided by its weight differs by no more than one unit of each.
"""

from datetime import timedelta
from itertools import accumulate, pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import leases
from jobs.admission import Quota, admit
from jobs.errors import QuotaExceededError
from jobs.fairness import WEIGHTS
from jobs.leases import Appetite, Claim, Holder
from jobs.submission import Submission, TextItem
from models.types import JobType, Priority
from tests.faults import cancel_job, change
from tests.ledger import MODEL, TENANT, WORKER, assert_settled, claim, complete, scalar, submit_texts

Sessions = sessionmaker[Session]
BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


def take(sessions: Sessions, items: int = 1) -> Claim:
    held = claim(sessions, appetite=Appetite(items=items))
    assert held is not None
    assert complete(sessions, held)
    return held


def served(sessions: Sessions, claims: int) -> list[tuple[str, float]]:
    """Whom the next claims serve: the tenant, and the cost."""
    taken = [take(sessions) for _ in range(claims)]
    return [(held.units[0].tenant, held.cost) for held in taken]


def unfairness(order: list[tuple[str, float]], weights: dict[str, float]) -> float:
    """The most by which two flows that both wait are apart, over any stretch of the order."""
    first, second = weights
    signs = {first: 1.0, second: -1.0}
    apart = [0.0, *accumulate(signs[tenant] * cost / weights[tenant] for tenant, cost in order)]
    return max(apart) - min(apart)


def waiting(sessions: Sessions, tenant: str) -> int:
    query = "SELECT count(*) FROM work JOIN jobs ON jobs.id = job_id WHERE tenant = :tenant"
    return int(scalar(sessions, query, tenant=tenant))


def clock(sessions: Sessions, tenant: str) -> float:
    return float(scalar(sessions, "SELECT clock FROM flows WHERE tenant = :tenant", tenant=tenant))


def floor(sessions: Sessions) -> float:
    return float(scalar(sessions, "SELECT floor FROM queues WHERE model = :model", model=MODEL))


def test_an_interactive_job_is_next_whatever_waits_in_bulk(sessions: Sessions) -> None:
    submit_texts(sessions, 1_000, tenant="bulk")
    for _ in range(3):
        served(sessions, 2)
        job_id = submit_texts(sessions, tenant="person")
        assert take(sessions).units[0].job_id == job_id


def test_two_flows_share_by_their_weights_and_neither_starves(sessions: Sessions) -> None:
    submit_texts(sessions, 400, tenant="bulk")
    served(sessions, 3)
    for _ in range(10):
        submit_texts(sessions, 30, tenant="person", priority=INTERACTIVE)
    order = []
    while waiting(sessions, "person") and waiting(sessions, "bulk"):
        order += served(sessions, 1)
    weights = {"bulk": WEIGHTS[BULK], "person": WEIGHTS[INTERACTIVE]}
    largest = {tenant: max(cost for who, cost in order if who == tenant) for tenant in weights}
    bound = sum(largest[tenant] / weights[tenant] for tenant in weights)
    assert unfairness(order, weights) <= bound * 1.000001
    # both had their turns: the bound alone would also hold for a stretch that is too short to tell
    assert [who for who, _ in order].count("bulk") >= 2


def test_two_tenants_take_turns(sessions: Sessions) -> None:
    submit_texts(sessions, 200, tenant="one", priority=BULK)
    submit_texts(sessions, 200, tenant="other", priority=BULK)
    order = [tenant for tenant, _ in served(sessions, 16)]
    assert all(first != second for first, second in pairwise(order))


def test_many_small_jobs_of_one_tenant_do_not_outrun_one_job_of_another(sessions: Sessions) -> None:
    for _ in range(30):
        submit_texts(sessions, tenant="many")
    submit_texts(sessions, tenant="one")
    order = [tenant for tenant, _ in served(sessions, 3)]
    assert "one" in order[:2]


def test_a_flow_that_used_idle_capacity_is_not_punished_afterwards(sessions: Sessions) -> None:
    submit_texts(sessions, 400, tenant="busy", priority=BULK)
    served(sessions, 10)
    submit_texts(sessions, 200, tenant="late", priority=BULK)
    order = [tenant for tenant, _ in served(sessions, 12)]
    assert order.count("busy") >= 5


def test_a_flow_that_was_away_has_saved_nothing_up(sessions: Sessions) -> None:
    submit_texts(sessions, 20, tenant="away", priority=BULK)
    served(sessions, waiting(sessions, "away"))
    submit_texts(sessions, 400, tenant="busy", priority=BULK)
    served(sessions, 12)
    submit_texts(sessions, 200, tenant="away", priority=BULK)
    order = [tenant for tenant, _ in served(sessions, 12)]
    assert order.count("busy") >= 5


def test_a_new_flow_begins_where_the_queue_has_come(sessions: Sessions) -> None:
    submit_texts(sessions, 400, tenant="busy", priority=BULK)
    served(sessions, 5)
    assert floor(sessions) > 0
    submit_texts(sessions, tenant="new")
    place = "SELECT vtime FROM work JOIN jobs ON jobs.id = job_id WHERE tenant = 'new'"
    assert scalar(sessions, place) == floor(sessions)


def test_what_is_cancelled_is_paid_back_and_the_next_job_does_not_wait_for_it(sessions: Sessions) -> None:
    wrong = submit_texts(sessions, 2_000, tenant="one", priority=BULK)
    submit_texts(sessions, 200, tenant="other", priority=BULK)
    served(sessions, 2)
    cancel_job(sessions, wrong, "one")
    submit_texts(sessions, 200, tenant="one", priority=BULK)
    order = [tenant for tenant, _ in served(sessions, 8)]
    assert order.count("one") >= 3


def test_a_refund_never_takes_a_flow_behind_the_floor(sessions: Sessions) -> None:
    wrong = submit_texts(sessions, 100, tenant="one", priority=BULK)
    submit_texts(sessions, 400, tenant="busy", priority=BULK)
    change(sessions, "UPDATE work SET vtime = 1e9 WHERE job_id = :job_id", job_id=wrong)
    served(sessions, 15)
    cancel_job(sessions, wrong, "one")
    assert clock(sessions, "one") == floor(sessions)


def test_a_claim_does_not_wait_for_the_floor_and_the_next_one_raises_it(sessions: Sessions) -> None:
    submit_texts(sessions, 200, tenant="bulk", priority=BULK)
    served(sessions, 2)
    before = floor(sessions)
    with sessions.begin() as other:
        other.execute(text("SELECT 1 FROM queues FOR NO KEY UPDATE"))
        with sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '200ms'"))
            holder = Holder(WORKER, timedelta(seconds=30), timedelta(seconds=60))
            assert leases.claim(session, MODEL, holder) is not None
    assert floor(sessions) == before
    served(sessions, 1)
    assert floor(sessions) > before


def test_a_batch_is_led_by_whose_turn_it_is(sessions: Sessions) -> None:
    for _ in range(8):
        submit_texts(sessions, tenant="many")
    first = submit_texts(sessions, tenant="one", options={"normalize": False})
    # the head is of the first flow; its mates run ahead of their turn, and the other flow comes next
    assert take(sessions, items=4).size == 4
    assert take(sessions, items=4).units[0].job_id == first
    take(sessions, items=32)
    assert_settled(sessions)


def test_a_submit_that_is_refused_is_not_charged(sessions: Sessions) -> None:
    submit_texts(sessions, 10, priority=BULK)
    before = clock(sessions, TENANT)
    wanted = Submission(JobType.EMBEDDING, MODEL, [TextItem("one too many")], {"normalize": True}, BULK)
    with pytest.raises(QuotaExceededError), sessions.begin() as session:
        admit(session, TENANT, wanted, Catalog(), Quota(items=10))
    assert clock(sessions, TENANT) == before
