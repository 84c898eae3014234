"""The time of a claim, which says what its items cost: without what is not its own."""

import time
import uuid

import pytest

from engine.catalog import Catalog
from jobs.leases import Claim, Unit
from models.types import JobType
from tests.ledger import MODEL, TENANT
from worker.heartbeat import Heartbeat
from worker.pace import items_gflop
from worker.passage import Passage


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def test_what_goes_between_and_what_stands_aside_is_not_timed(clock: Clock, heartbeat: Heartbeat) -> None:
    passage = Passage(heartbeat, between=lambda: clock.advance(10))
    clock.advance(1)
    passage.step()
    with passage.aside():
        clock.advance(100)
    passage.linger()
    clock.advance(2)
    assert passage.seconds == 3
    # to wait is no progress
    assert heartbeat._stepped_at == 1


def test_labels_are_no_cost_of_the_items() -> None:
    def cost(labels: int) -> float:
        options = {
            "labels": ["a"] * labels,
            "outputs": ["pooled"],
            "layers": "all",
            "patch_layers": None,
            "patch_method": "head",
        }
        items = [{"index": index, "kind": "image"} for index in range(3)]
        unit = Unit(uuid.uuid4(), 0, 1, 1e9, 1, TENANT, JobType.LOGIT_LENS, options, items)
        return items_gflop(Claim(uuid.uuid4(), (unit,)), Catalog().find(MODEL))

    assert cost(10_000) == cost(1) > 0
