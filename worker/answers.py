"""The answers to a claim, gathered item by item and parted by unit at the end."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from jobs.leases import Claim, ItemResult, Returned, Unit, UnitResult
from worker.claims import MAX_REASON, Outcome
from worker.decoding import item_error
from worker.steps import is_refusal

if TYPE_CHECKING:
    import uuid

TRIES: Final = 3
"""An item of a large unit that fails alone so often fails for good: the others are not to wait for it."""
FAILED_ALONE: Final = item_error(
    "inference-failed",
    f"The model failed {TRIES} times on this item and not on those beside it; the worker's log says how.",
    retryable=True,
)

Found = TypeVar("Found")


class Answers:
    """What is known of each item of a claim so far."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._found: dict[tuple[uuid.UUID, int], ItemResult] = {}
        self._reasons: dict[tuple[uuid.UUID, int], str] = {}

    def add(self, units: Iterable[Unit], results: Iterable[ItemResult]) -> None:
        """Keep results, each with the unit of its item."""
        for unit, result in zip(units, results, strict=True):
            self._found[unit.job_id, int(result.item["index"])] = result

    def fail(self, unit: Unit, item: dict[str, Any], error: BaseException, *, alone: bool) -> None:
        """An item failed in a pass of its own, `alone` when others of its unit did not.

        It was refused, or was tried often enough, or its unit is to be tried again.
        """
        if is_refusal(error):
            self.add([unit], [ItemResult(item, error=refusal(error))])
        elif alone and unit.attempt >= TRIES:
            self.add([unit], [ItemResult(item, error=FAILED_ALONE)])
        else:
            self._reasons[unit.job_id, unit.unit] = f"{type(error).__name__}: {error}"[:MAX_REASON]

    def refuse(self, error: BaseException) -> None:
        """The engine refuses what all items have in common: labels that it cannot tell apart, for one."""
        for unit in self._claim.units:
            self.add(
                [unit] * len(unit.items), [ItemResult(item, error=refusal(error)) for item in unit.items]
            )

    def share(self) -> None:
        """Give items of a unit that have the same bytes as one that was answered its answer."""
        for unit in self._claim.units:
            known = {
                item["sha256"]: self._found[unit.job_id, int(item["index"])]
                for item in unit.items
                if "sha256" in item and (unit.job_id, int(item["index"])) in self._found
            }
            for item in unit.items:
                if item.get("sha256") in known:
                    result = known[item["sha256"]]
                    self._found.setdefault((unit.job_id, int(item["index"])), replace(result, item=item))

    def outcome(self, provenance: dict[str, Any]) -> Outcome:
        """What is to be told to the ledger, once every item has its answer."""
        results, returned = [], []
        for unit in self._claim.units:
            reason = self._reasons.get((unit.job_id, unit.unit))
            if reason is None:
                results.append(self._unit_result(unit, provenance))
            else:
                returned.append(Returned(unit.job_id, unit.unit, reason))
        return Outcome(results, returned)

    def _unit_result(self, unit: Unit, provenance: dict[str, Any]) -> UnitResult:
        items = [self._found[unit.job_id, int(item["index"])] for item in unit.items]
        # a unit in which nothing succeeded has computed nothing: another one is to say what did
        known = provenance if any(result.payload is not None for result in items) else None
        return UnitResult(unit.job_id, unit.unit, items, known)


def refusal(error: BaseException) -> dict[str, Any]:
    """The error of an item that the engine refused."""
    return item_error(str(getattr(error, "code", "engine-error")), str(error), retryable=False)


def units_of(entries: Sequence[tuple[Unit, Found]]) -> list[Unit]:
    """The unit of each entry."""
    return [unit for unit, _ in entries]


def found_of(entries: Sequence[tuple[Unit, Found]]) -> list[Found]:
    """What each entry is beside its unit: a decoded picture, or an item with a text."""
    return [found for _, found in entries]
