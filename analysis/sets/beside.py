"""What a summary sets its job beside: another job over the version, and another version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.sets.comparison import compare
from analysis.sets.drift import measure_drift
from analysis.sets.facts import SetFacts
from analysis.sets.notes import Notes
from analysis.sets.schema import Warned
from analysis.sets.schema_pairs import Comparison, Drift
from analysis.sets.summary import Study


@dataclass(frozen=True, slots=True, eq=False)
class BesideFacts:
    """Facts of another job over the same version, and of one over another version, each if there is one.

    `same_truth` is of `other`, see `analysis.sets.comparison.pair`.
    """

    other: SetFacts | None = None
    same_truth: Mapping[str, str] | None = None
    reference: SetFacts | None = None


NOTHING: Final = BesideFacts()


def set_beside(
    facts: SetFacts, studied: Study, beside: BesideFacts, step: Callable[[], None]
) -> tuple[Comparison | None, Drift | None, Sequence[Warned]]:
    """The comparison and the drift of a summary, None where none is asked for, and their warnings.

    Raises:
        IncomparableError: what is beside the facts is no match for them.
    """
    notes = Notes()
    comparison = drift = None
    if beside.other is not None:
        comparison = compare(facts, studied, beside.other, notes, beside.same_truth)
        step()
    if beside.reference is not None:
        drift = measure_drift(facts, beside.reference, notes)
        step()
    return comparison, drift, notes.said
