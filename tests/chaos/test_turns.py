"""Whose turn it is with real workers, and ends that race each other."""

import threading
import time
from datetime import timedelta
from typing import Any

from jobs.errors import AlreadyEndedError
from jobs.submission import Terms
from models.types import ENDED, Priority
from tests.chaos.conftest import Chaos
from tests.faults import cancel_job

RACES = 1_000


def test_a_person_does_not_wait_for_a_large_job_and_the_large_job_goes_on(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_CHAOS_BATCH_MS="30")
    large = chaos.order(["a text"] * 20_000)
    chaos.wait_until(lambda: chaos.job(large).succeeded > 0)
    for _ in range(20):
        before = chaos.job(large).succeeded
        answer = chaos.client.post(
            "/v1/jobs",
            json={"type": "embedding", "input": {"texts": ["a text"]}},
            headers={"Prefer": "wait=10"},
        )
        assert answer.json()["done"], answer.text
        # the large job is some hundred batches; a person waits for a few of them
        assert chaos.job(large).succeeded - before < 2_000
    assert chaos.job(large).state == "running"
    cancel_job(chaos.sessions, large)
    chaos.settle()


def test_who_used_idle_capacity_shares_evenly_with_who_comes_later(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_CHAOS_BATCH_MS="30")
    chaos.order(["a text"] * 5_000, tenant="busy")
    chaos.settle()
    busy = chaos.order(["a text"] * 5_000, tenant="busy")
    fresh = chaos.order(["a text"] * 5_000, tenant="fresh")
    chaos.wait_until(lambda: chaos.job(busy).succeeded + chaos.job(fresh).succeeded >= 5_000)
    assert abs(chaos.job(busy).succeeded - chaos.job(fresh).succeeded) < 1_000
    chaos.settle()


class Watcher(threading.Thread):
    """Notes how each job ended, and whether one that had ended was changed."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(daemon=True)
        self.ends: dict[str, Any] = {}
        self.changed: list[Any] = []
        self._chaos = chaos
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.look()

    def look(self) -> None:
        ended = self._chaos.count(
            """SELECT jsonb_object_agg(id, jsonb_build_array(state, ended_at, succeeded, failed, dropped))
               FROM jobs WHERE ended_at IS NOT NULL"""
        )
        for job_id, end in (ended or {}).items():
            if self.ends.setdefault(job_id, end) != end:
                self.changed.append((self.ends[job_id], end))

    def stop(self) -> None:
        self._over.set()
        self.join()
        self.look()


def test_cancels_and_deadlines_that_race_workers_leave_one_end_that_never_changes(chaos: Chaos) -> None:
    chaos.add_worker(LENSQUEUE_BATCH_ITEMS="4", LENSQUEUE_CHAOS_BATCH_MS="10")
    watcher = Watcher(chaos)
    watcher.start()
    for number in range(RACES):
        terms = Terms(
            start_within=timedelta(seconds=1) if number % 3 == 1 else None,
            run_timeout=timedelta(milliseconds=5) if number % 3 == 2 else None,
        )
        job_id = chaos.order(["a text"] * 3, Priority.INTERACTIVE, terms=terms)
        if number % 3 == 0:
            time.sleep(number % 7 / 100)
            try:
                cancel_job(chaos.sessions, job_id)
            except AlreadyEndedError:
                continue
    chaos.settle(120)
    watcher.stop()
    assert watcher.changed == []
    assert len(watcher.ends) == RACES
    states = {end[0] for end in watcher.ends.values()}
    assert states <= ENDED
    assert {"succeeded", "cancelled"} <= states
