"""How fast this worker is, and how much fits it: both learnt from the batches that it ran."""

import threading
import time
import uuid
from collections import deque
from collections.abc import Container
from typing import Final

from engine.catalog import Checkpoint
from jobs.leases import Claim
from jobs.pricing import price
from models.types import JobType

CLAIMS_KEPT: Final = 32
MIN_STALL_SECONDS: Final = 60.0
STALL_BATCHES: Final = 4
GROWTH: Final = 1 / 16
FILL_MINUTES: Final = 5


def items_gflop(
    claim: Claim, checkpoint: Checkpoint, known: Container[tuple[uuid.UUID, str]] = frozenset()
) -> float:
    """The estimate for the items of a claim, without their labels: those are embedded once a job.

    Of rescored ones it is 0: how long they take says nothing of the model. Nor do those that were not
    fetched, or whose pictures are `known`, by job and SHA-256.
    """
    return sum(
        sum("error" not in item and (unit.job_id, item.get("sha256", "")) not in known for item in unit.items)
        * price(JobType(unit.type), unit.options, unit.items[0]["kind"], checkpoint).item_gflop
        for unit in claim.units
        if unit.type != JobType.RESCORE
    )


class Pace:
    """The time that recent claims took."""

    def __init__(self) -> None:
        self._claims: deque[tuple[float, float]] = deque(maxlen=CLAIMS_KEPT)
        self.batch_seconds = 0.0
        """The longest of the recent ones."""
        self.seconds_per_gflop: float | None = None
        """The median, each claim weighed by its cost: small ones are mostly overhead."""
        self.fill = Fill()

    def learn(self, seconds: float, gflop: float) -> None:
        """Count a claim that was computed."""
        self._claims.append((seconds, gflop))
        self.batch_seconds = max(taken for taken, _ in self._claims)
        rates = sorted((taken / cost, cost) for taken, cost in self._claims if cost > 0)
        half = sum(cost for _, cost in rates) / 2
        passed = 0.0
        for rate, cost in rates:
            passed += cost
            if passed >= half:
                self.seconds_per_gflop = rate
                return

    @property
    def stall_seconds(self) -> float:
        """A batch that shows no progress for so long is taken for hung."""
        return max(MIN_STALL_SECONDS, STALL_BATCHES * self.batch_seconds)


class Fill:
    """How full the batches of the last minutes were; counted by one thread, read by another."""

    def __init__(self) -> None:
        self._minutes: deque[list[int]] = deque(maxlen=FILL_MINUTES)
        self._lock = threading.Lock()

    def count(self, items: int, places: int) -> None:
        """A batch was run, of so many items where so many could have been."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            if not self._minutes or self._minutes[-1][0] != minute:
                self._minutes.append([minute, 0, 0])
            self._minutes[-1][1] += items
            self._minutes[-1][2] += places

    @property
    def share(self) -> float | None:
        """The share of places that was taken; None where there was no batch."""
        oldest = int(time.monotonic() // 60) - FILL_MINUTES
        with self._lock:
            recent = [(items, places) for minute, items, places in self._minutes if minute > oldest]
        places = sum(each for _, each in recent)
        return sum(each for each, _ in recent) / places if places else None


class Room:
    """How many items share a forward pass: bounded by a number, and by memory as far as it is estimated."""

    def __init__(self, items: int, memory_bytes: int) -> None:
        self._items = items
        self._most_bytes = memory_bytes
        self.memory_bytes = memory_bytes
        """The present bound; less than at first while the device was found to be full."""

    def at_once(self, item_bytes: int) -> int:
        """So many items of this size may be tried together; one in any case."""
        return max(1, min(self._items, self.memory_bytes // max(item_bytes, 1)))

    def shrink(self, items: int, item_bytes: int) -> None:
        """So many did not fit: others are to try half as many."""
        self.memory_bytes = max(1, min(self.memory_bytes, items * item_bytes // 2))

    def grow(self) -> None:
        """A batch did fit: by and by there may be more room again."""
        if self.memory_bytes < self._most_bytes:
            self.memory_bytes = min(self._most_bytes, int(self.memory_bytes * (1 + GROWTH)) + 1)
