"""A version of 120,000 pictures: searched by the index, which finds what reading all of them finds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs.nearest import Filters
from jobs.vectors import LARGE, SLICE, begin_index, end_index, store_vectors
from tests.faults import change
from tests.integration.test_plans import indexes
from tests.ledger import scalar
from tests.set_vectors import (
    BY_INDEX,
    MODEL,
    WEIGHTS,
    WIDTH,
    drawn,
    expected,
    head_of,
    plan_of,
    search,
    version_of,
)

PICTURES: Final = 120_000
SEARCHES: Final = 20


@pytest.mark.full
@pytest.mark.timeout(900)
def test_above_a_hundred_thousand_the_index_is_used_and_finds_the_nearest(
    sessions: sessionmaker[Session],
) -> None:
    assert PICTURES > LARGE
    stored, asked = drawn(PICTURES), drawn(SEARCHES, seed=1)
    version_id = version_of(sessions, PICTURES)
    with sessions.begin() as session:
        begin_index(session, version_id, MODEL, WIDTH, WEIGHTS)
    with _without_index(sessions):
        for start in range(0, PICTURES, SLICE):
            part = stored[start : start + SLICE]
            with sessions.begin() as session:
                store_vectors(session, version_id, MODEL, np.arange(start, start + len(part)), part)
    with sessions.begin() as session:
        assert end_index(session, version_id, MODEL) == PICTURES
    head = head_of(sessions, version_id)
    filters = (Filters(), Filters(true_label="a heart"), Filters(true_label="a heart", split="test"))
    for each in filters:
        assert BY_INDEX in indexes(plan_of(sessions, head, asked[0], each, by_index=True))
    hits = 0
    for vector in asked:
        found = search(sessions, head, vector)
        assert not found.exact
        exact = search(sessions, head, vector, exact=True)
        assert exact.exact
        # by their cosines: of two that are alike to float32, either may come first
        np.testing.assert_allclose(
            [near.cosine for near in exact.items], stored[expected(stored, vector)] @ vector, atol=1e-3
        )
        hits += len({near.index for near in found.items} & {near.index for near in exact.items})
    recall = hits / (10 * SEARCHES)
    print(f"recall of the nearest 10 of {PICTURES}: {recall:.3f}")  # noqa: T201 - what `-rP` shows
    assert recall >= 0.95


@contextmanager
def _without_index(sessions: sessionmaker[Session]) -> Iterator[None]:
    """Drop the index and build it at the end: one vector after the other, it takes several times as long."""
    made = scalar(sessions, "SELECT indexdef FROM pg_indexes WHERE indexname = :name", name=BY_INDEX)
    change(sessions, f"DROP INDEX {BY_INDEX}")
    yield
    with sessions.begin() as session:
        session.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        session.execute(text(made))
