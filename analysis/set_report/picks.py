"""Which items the page shows of each list, and so which pictures it needs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

from analysis.sets.facts import FailedItem
from analysis.sets.schema import ClassSummary, Confused, LateFlip, Summary
from analysis.sets.schema_items import DuplicateGroup, LabelCandidate, Named, Outlier

LATE_SHOWN: Final = 24
PAIRS_SHOWN: Final = 8
PAIR_ITEMS: Final = 4
CANDIDATES_SHOWN: Final = 24
OUTLIERS_SHOWN: Final = 24
OUTLYING: Final = 1.5
"""A local outlier factor from which on an image stands apart: below it lie the edges of any cloud."""
GROUPS_SHOWN: Final = 12
GROUP_ITEMS: Final = 5
EXAMPLES_SHOWN: Final = 12
"""With all of them full a page holds 176 pictures."""
FAILED_SHOWN: Final = 100
CLASSES_SHOWN: Final = 80
WORST_SHOWN: Final = 40
BEST_SHOWN: Final = 20
NAMES_SHOWN: Final = 40
LABEL_ROWS: Final = 200
MATRIX_LABELS: Final = 40
"""Up to so many labels the confusion is a table that one can read; of more it is drawn."""
TICKS_SHOWN: Final = 52
"""So many names of labels fit along a side of what is drawn; of more labels each second or third is named."""


@dataclass(frozen=True, slots=True)
class Picks:
    """What is shown with its picture, of each list its head."""

    late: Sequence[LateFlip]
    pairs: Sequence[tuple[Confused, Sequence[Named]]]
    candidates: Sequence[LabelCandidate]
    outliers: Sequence[Outlier]
    groups: Sequence[tuple[DuplicateGroup, Sequence[Named]]]

    def named(self) -> Iterator[tuple[str, Named]]:
        """Each item shown with the name of its list, in the order of the page."""
        yield from (("late", item) for item in self.late)
        yield from (("confused", item) for _, items in self.pairs for item in items)
        yield from (("candidate", item) for item in self.candidates)
        yield from (("copy", item) for _, items in self.groups for item in items)
        yield from (("outlier", item) for item in self.outliers)


def pick(summary: Summary) -> Picks:
    """The head of each list of items."""
    return Picks(
        late=summary.settle.late[:LATE_SHOWN],
        pairs=[(pair, pair.items[:PAIR_ITEMS]) for pair in summary.confusion.pairs[:PAIRS_SHOWN]],
        candidates=summary.label_candidates.items[:CANDIDATES_SHOWN],
        outliers=[item for item in summary.outliers.items if item.score > OUTLYING][:OUTLIERS_SHOWN],
        groups=[(group, group.items[:GROUP_ITEMS]) for group in summary.duplicates.groups[:GROUPS_SHOWN]],
    )


def wanted_items(summary: Summary) -> list[int]:
    """Indexes of the items whose pictures the page asks for, each once: at most 176."""
    shown = (item.index for _, item in pick(summary).named())
    return list(dict.fromkeys(chain(example_items(summary), shown)))


def example_items(summary: Summary) -> list[int]:
    """Indexes of items whose ranks are worth a look, at most 12: late, confused and doubtful ones in turn.

    Late ones are taken of different labels first, so that the examples do not tell one story twelve times.
    """
    labels: set[str] = set()
    fresh: list[int] = []
    again: list[int] = []
    for item in summary.settle.late:
        (again if item.top in labels else fresh).append(item.index)
        labels.add(item.top)
    confused = [pair.items[0].index for pair in summary.confusion.pairs if pair.items]
    doubtful = [item.index for item in summary.label_candidates.items]
    turns = zip_longest([*fresh, *again], confused, doubtful)
    in_turn = (index for turn in turns for index in turn if index is not None)
    return list(dict.fromkeys(in_turn))[:EXAMPLES_SHOWN]


def failed_shown(failed: Sequence[FailedItem], codes: Iterable[str]) -> list[FailedItem]:
    """At most 100 failed items, by code in the order of `codes` and by index; no code is crowded out."""
    order = {code: place for place, code in enumerate(codes)}
    seen: dict[str, int] = {}
    turns = []
    for item in sorted(failed, key=lambda item: item.index):
        place = order.get(item.code, len(order))
        turns.append((seen.get(item.code, 0), place, item))
        seen[item.code] = seen.get(item.code, 0) + 1
    kept = sorted(turns, key=lambda turn: turn[:2])[:FAILED_SHOWN]
    return [item for _, _, item in sorted(kept, key=lambda turn: (turn[1], turn[2].code, turn[2].index))]


def classes_shown(classes: Sequence[ClassSummary]) -> list[ClassSummary]:
    """Of classes that have images all, or of many the worst, the best and the largest of those not ranked."""
    known = [each for each in classes if each.n]
    if len(known) <= CLASSES_SHOWN:
        return known
    ranked = [each for each in known if each.ranked]
    others = [each for each in known if not each.ranked]
    most = WORST_SHOWN + BEST_SHOWN
    head = ranked if len(ranked) <= most else [*ranked[:WORST_SHOWN], *ranked[-BEST_SHOWN:]]
    return [*head, *others[: CLASSES_SHOWN - len(head)]]
