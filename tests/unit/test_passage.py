"""The time of a claim, which says what its items cost: without what is not its own."""

import time
import uuid

import pytest

from engine.catalog import Catalog
from jobs.leases import Claim, Unit
from models.types import JobType
from tests.ledger import MODEL, TENANT
from worker.pace import items_gflop
from worker.passage import Passage


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


class StillHeart:
    """A heartbeat that nobody hears."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, _: object) -> None:
        self.steps += 1

    def check(self, _: object) -> None:
        """Nothing is ever abandoned."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def test_what_goes_between_and_what_stands_aside_is_not_timed(clock: Clock) -> None:
    heart = StillHeart()
    passage = Passage(heart, between=lambda: clock.advance(10))  # type: ignore[arg-type]  # beats alone
    clock.advance(1)
    passage.step()
    with passage.aside():
        clock.advance(100)
    passage.linger()
    clock.advance(2)
    assert passage.seconds == 3
    # to wait is no progress
    assert heart.steps == 1


def test_labels_are_no_cost_of_the_items() -> None:
    def cost(labels: int) -> float:
        options = {
            "labels": ["a"] * labels,
            "outputs": ["pooled"],
            "layers": "all",
            "patch_layers": None,
        }
        items = [{"index": index, "kind": "image"} for index in range(3)]
        unit = Unit(uuid.uuid4(), 0, 1, 1e9, 1, TENANT, JobType.LOGIT_LENS, options, items)
        return items_gflop(Claim(uuid.uuid4(), (unit,)), Catalog().find(MODEL))

    assert cost(10_000) == cost(1) > 0
