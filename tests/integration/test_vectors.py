"""Vectors of a version: stored once, found exactly or by an index, filtered, gone with their version."""

import numpy as np
import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from jobs import nearest, vectors
from jobs.errors import UnknownImageSetError
from jobs.nearest import Filters, find_nearest
from jobs.vectors import begin_index, end_index, store_vectors
from models.image_set import ImageSetVersion
from tests.integration.test_plans import indexes
from tests.ledger import scalar
from tests.set_vectors import (
    BY_INDEX,
    KINDS,
    MODEL,
    WEIGHTS,
    WIDTH,
    drawn,
    expected,
    head_of,
    indexed,
    plan_of,
    search,
    version_of,
)

Sessions = sessionmaker[Session]
SOME = 1_200


@pytest.fixture
def few_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of a thousand pictures are large: to put a hundred thousand into an index takes minutes."""
    monkeypatch.setattr(vectors, "LARGE", 1_000)


def test_the_nearest_of_a_version_are_those_that_numpy_finds(sessions: Sessions) -> None:
    stored, asked = drawn(SOME), drawn(3, seed=1)
    version_id = version_of(sessions, SOME)
    head = indexed(sessions, version_id, stored)
    assert (head.large, head.vectors, head.width) == (False, SOME, WIDTH)
    for vector in asked:
        found = search(sessions, head, vector)
        assert found.exact
        assert [near.index for near in found.items] == expected(stored, vector)
        cosines = [near.cosine for near in found.items]
        np.testing.assert_allclose(
            cosines, [stored[near.index] @ vector for near in found.items], rtol=0, atol=1e-3
        )
    first = found.items[0]
    assert (first.custom_id, first.true_label) == (f"item-{first.index}", KINDS[first.index % 4])


def test_filters_leave_out_what_does_not_fit(sessions: Sessions) -> None:
    stored, [vector] = drawn(SOME), drawn(1, seed=1)
    head = indexed(sessions, version_of(sessions, SOME), stored)
    ordered = expected(stored, vector, SOME)
    filters = Filters(true_label="a heart", split="test")
    found = search(sessions, head, vector, filters=filters)
    assert [near.index for near in found.items] == [
        index for index in ordered if index % 4 == 2 and not index % 10
    ][:10]
    others = search(sessions, head, vector, filters=Filters(but=ordered[0]))
    assert [each.index for each in others.items] == ordered[1:11]
    cosine = others.items[3].cosine
    best = search(sessions, head, vector, filters=Filters(min_cosine=cosine - 1e-9))
    assert [each.index for each in best.items] == ordered[:5]
    assert search(sessions, head, vector, filters=Filters(true_label="nothing")).items == []


def test_vectors_are_of_norm_1_and_one_without_a_direction_is_none(sessions: Sessions) -> None:
    vectors = drawn(4) * np.array([[1], [100_000], [0], [0.001]], dtype=np.float32)
    head = indexed(sessions, version_of(sessions, 4), vectors)
    assert head.vectors == 3
    found = search(sessions, head, vectors[1] / np.float32(100_000))
    assert {near.index for near in found.items} == {0, 1, 3}
    assert found.items[0].index == 1
    assert found.items[0].cosine == pytest.approx(1, abs=1e-3)


def test_what_is_stored_again_stays_as_it_was(sessions: Sessions) -> None:
    stored = drawn(100)
    version_id = version_of(sessions, 100)
    indexed(sessions, version_id, stored[:60])
    with sessions.begin() as session:
        begin_index(session, version_id, MODEL, WIDTH, WEIGHTS)
        assert store_vectors(session, version_id, MODEL, np.arange(40, 100), stored[40:]) == 40
        assert store_vectors(session, version_id, MODEL, np.arange(100), stored) == 0
        assert end_index(session, version_id, MODEL) == 100
    found = search(sessions, head_of(sessions, version_id), stored[50])
    assert [near.index for near in found.items] == expected(stored, stored[50])


def test_vectors_of_other_weights_take_the_place_of_those_before(sessions: Sessions) -> None:
    version_id = version_of(sessions, 20)
    indexed(sessions, version_id, drawn(20))
    with sessions.begin() as session:
        begin_index(session, version_id, MODEL, WIDTH, "other")
        assert store_vectors(session, version_id, MODEL, np.arange(5), drawn(5, seed=2)) == 5
    head = head_of(sessions, version_id)
    assert (head.indexed_at, head.weights_sha256) == (None, "other")
    assert scalar(sessions, "SELECT count(*) FROM set_vectors") == 5


def test_vectors_of_another_width_or_of_no_version_are_refused(sessions: Sessions) -> None:
    version_id = version_of(sessions, 20)
    with sessions.begin() as session, pytest.raises(UnknownImageSetError):
        store_vectors(session, version_id, MODEL, np.arange(20), drawn(20))
    indexed(sessions, version_id, drawn(20))
    with sessions.begin() as session, pytest.raises(ValueError, match="64 numbers"):
        store_vectors(session, version_id, MODEL, np.arange(20), drawn(20)[:, :64])


def test_vectors_go_with_their_version(sessions: Sessions) -> None:
    version_id = version_of(sessions, 20)
    indexed(sessions, version_id, drawn(20))
    with sessions.begin() as session:
        session.execute(delete(ImageSetVersion).where(ImageSetVersion.id == version_id))
    assert scalar(sessions, "SELECT count(*) FROM set_vectors") == 0
    with sessions.begin() as session, pytest.raises(UnknownImageSetError):
        begin_index(session, version_id, MODEL, WIDTH, WEIGHTS)


def test_all_vectors_of_a_small_version_are_read_and_none_of_others(sessions: Sessions) -> None:
    head = indexed(sessions, version_of(sessions, SOME), drawn(SOME))
    indexed(sessions, version_of(sessions, SOME), drawn(SOME))
    [vector] = drawn(1, seed=1)
    plan = plan_of(sessions, head, vector, Filters(), by_index=False)
    assert BY_INDEX not in indexes(plan)
    [scan] = [node for node in plan if node.get("Relation Name") == "set_vectors"]
    assert scan["Actual Rows"] * scan["Actual Loops"] == SOME


@pytest.mark.usefixtures("few_are_large")
def test_a_large_version_is_searched_by_the_index_of_its_width(sessions: Sessions) -> None:
    stored, asked = drawn(SOME), drawn(20, seed=1)
    head = indexed(sessions, version_of(sessions, SOME), stored)
    assert head.large
    for filters in (Filters(), Filters(true_label="a heart")):
        plan = plan_of(sessions, head, asked[0], filters, by_index=True)
        assert BY_INDEX in indexes(plan)
    hits = 0
    for vector in asked:
        found = search(sessions, head, vector)
        assert not found.exact
        hits += len({near.index for near in found.items} & set(expected(stored, vector)))
    assert hits >= 0.95 * 10 * len(asked)


@pytest.mark.usefixtures("few_are_large")
def test_what_an_index_holds_of_others_is_never_found(sessions: Sessions) -> None:
    stored = drawn(SOME)
    indexed(sessions, version_of(sessions, SOME, tenant="others"), stored)
    mine = version_of(sessions, SOME)
    # the same vectors under other indexes: each item of others is as near as one of mine
    head = indexed(sessions, mine, stored[::-1])
    found = search(sessions, head, stored[7])
    assert found.items[0].index == SOME - 8
    assert len({near.index for near in found.items}) == 10
    best = expected(stored[::-1], stored[7])
    assert len({near.index for near in found.items} & set(best)) >= 9


@pytest.mark.usefixtures("few_are_large")
def test_where_an_index_finds_too_few_all_vectors_are_read(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "CANDIDATES", 10)
    stored, [vector] = drawn(SOME), drawn(1, seed=1)
    head = indexed(sessions, version_of(sessions, SOME), stored)
    with sessions.begin() as session:
        session.connection().exec_driver_sql("SET LOCAL hnsw.max_scan_tuples = 1")
        filters = Filters(true_label="a heart", split="test")
        found = find_nearest(session, head, vector, limit=50, filters=filters)
    assert found.exact
    ordered = expected(stored, vector, SOME)
    fits = [index for index in ordered if index % 4 == 2 and not index % 10]
    assert [near.index for near in found.items] == fits[:50]
