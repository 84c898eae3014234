"""The order in which a job's items were counted, by which whoever follows it misses nothing."""

import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import cancel
from jobs.leases import Appetite
from models.types import Priority
from tests.faults import change
from tests.ledger import MODEL, TENANT, claim, complete, submit_texts

Sessions = sessionmaker[Session]


def events(sessions: Sessions, job_id: uuid.UUID) -> list[tuple[int, int]]:
    query = text("SELECT settled, unit FROM job_events WHERE job_id = :job_id ORDER BY settled")
    with sessions() as session:
        return [(row.settled, row.unit) for row in session.execute(query, {"job_id": job_id})]


def test_each_unit_has_its_place_whoever_shares_its_lease(sessions: Sessions) -> None:
    first, second = submit_texts(sessions, 3), submit_texts(sessions, 2)
    held = claim(sessions, appetite=Appetite(items=5))
    assert held is not None
    assert complete(sessions, held, failing=[1])
    assert events(sessions, first) == [(1, 0), (2, 1), (3, 2)]
    assert events(sessions, second) == [(1, 0), (2, 1)]


def test_a_place_is_the_count_of_all_items_up_to_it(sessions: Sessions) -> None:
    change(sessions, "DELETE FROM workers")
    job_id = submit_texts(sessions, 300, priority=Priority.BULK)
    sizes: list[int] = []
    while held := claim(sessions):
        sizes.append(held.size)
        assert complete(sessions, held)
    assert len(sizes) > 1
    found = events(sessions, job_id)
    assert [unit for _, unit in found] == list(range(len(sizes)))
    assert [settled for settled, _ in found] == [sum(sizes[: n + 1]) for n in range(len(sizes))]


def test_dropped_items_take_places_without_an_event(sessions: Sessions) -> None:
    job_id = submit_texts(sessions, 3)
    held = claim(sessions)
    assert held is not None
    with sessions.begin() as session:
        cancel.cancel(session, TENANT, job_id)
        cancel.drop_work(session, job_id)
    assert complete(sessions, held)
    assert events(sessions, job_id) == [(3, 0)]


def test_of_a_paused_queue_nothing_is_claimed_until_it_goes_on(sessions: Sessions) -> None:
    submit_texts(sessions)
    change(sessions, "UPDATE queues SET paused_at = now() WHERE model = :model", model=MODEL)
    assert claim(sessions) is None
    change(sessions, "UPDATE queues SET paused_at = NULL WHERE model = :model", model=MODEL)
    assert claim(sessions) is not None
