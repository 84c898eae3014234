"""The truths of a version whose items may have several true labels."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import UNLABELLED, SetFacts, Truths
from models.image_set import ImageSetItem

ROWS_AT_ONCE: Final = 20_000


def tell_truths(
    facts: SetFacts, sessions: sessionmaker[Session], version_id: uuid.UUID, step: Callable[[], None]
) -> SetFacts:
    """The facts with the truths of their items, if any item of the version has several; else as they are.

    An item that was given a single one has that alone.
    """
    with sessions() as session:
        several = select(ImageSetItem.index).where(
            ImageSetItem.version_id == version_id, ImageSetItem.true_labels.is_not(None)
        )
        if session.scalar(several.limit(1)) is None:
            return facts
    columns = {label: column for column, label in enumerate(facts.labels)}
    found = _read(sessions, version_id, columns, step)
    return replace(
        facts,
        true_label=np.full_like(facts.true_label, UNLABELLED),
        truths=_truths(found, facts.index),
        failed=[
            replace(item, true_label=UNLABELLED, true_labels=found.get(item.index, ()))
            for item in facts.failed
        ],
        dropped=replace(
            facts.dropped,
            true_label=np.full_like(facts.dropped.true_label, UNLABELLED),
            truths=_truths(found, facts.dropped.index),
        ),
    )


def _truths(found: Mapping[int, tuple[int, ...]], index: NDArray[np.int64]) -> Truths:
    """Those of the items with these indexes."""
    rows = [found.get(each, ()) for each in index.tolist()]
    return Truths(
        ends=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        labels=np.array([label for labels in rows for label in labels], dtype=np.int32),
    )


def _read(
    sessions: sessionmaker[Session],
    version_id: uuid.UUID,
    columns: Mapping[str, int],
    step: Callable[[], None],
) -> dict[int, tuple[int, ...]]:
    """The places among the labels that are true of each item, by index, where there are any."""
    found: dict[int, tuple[int, ...]] = {}
    after = -1
    while True:
        step()
        with sessions() as session:
            rows = session.execute(
                select(ImageSetItem.index, ImageSetItem.true_label, ImageSetItem.true_labels)
                .where(ImageSetItem.version_id == version_id, ImageSetItem.index > after)
                .order_by(ImageSetItem.index)
                .limit(ROWS_AT_ONCE)
            ).all()
        for index, true_label, true_labels in rows:
            named = true_labels or [true_label or ""]
            if places := tuple(columns[label] for label in named if label in columns):
                found[index] = places
        if len(rows) < ROWS_AT_ONCE:
            return found
        after = rows[-1][0]
