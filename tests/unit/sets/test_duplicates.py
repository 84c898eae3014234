"""Which images are found to be alike, and what their groups say."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.sets.images import pick_images
from analysis.sets.lookalikes import HASH_BITS, find_lookalikes, find_threshold
from analysis.sets.summary import study, summarize
from tests.unit.sets.made import make_facts, repeat, unit


def same_groups(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return bool(((one[:, None] == one) == (other[:, None] == other)).all())


def connect(vectors: NDArray[np.float32], hashes: list[int], threshold: float) -> NDArray[np.int64]:
    """Every image with every other, by walking along the pairs."""
    group = list(range(len(hashes)))
    for one in range(len(hashes)):
        for other in range(one):
            near = (hashes[one] ^ hashes[other]).bit_count() <= HASH_BITS
            if near and float(vectors[one] @ vectors[other]) >= threshold:
                old, new = group[one], group[other]
                group = [new if each == old else each for each in group]
    return np.array(group)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), st.sets(st.integers(0, 63), max_size=5)
        ),
        min_size=2,
        max_size=40,
    ),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_pairs_near_in_both_ways_are_found_whatever_the_hashes(
    told: list[tuple[int, set[int]]], seed: int, threshold: float
) -> None:
    hashes = [base ^ sum(1 << bit for bit in flipped) for base, flipped in told]
    chance = np.random.default_rng(seed)
    vectors = unit(chance.standard_normal((len(hashes), 3)))
    direction = vectors[0]
    found = find_lookalikes(
        vectors, np.arange(len(hashes)), np.array(hashes, dtype=np.uint64), direction, threshold
    )
    assert not found.cut
    assert same_groups(found.group, connect(vectors, hashes, threshold))


def test_the_threshold_is_what_different_pictures_stay_below() -> None:
    facts = make_facts(300, seed=3)
    # vectors of a few directions only: pairs of one kind come near to 1
    vectors = unit(np.eye(16)[facts.true_label] + 0.06 * facts.vectors)
    unrelated = [
        float(vectors[one].astype(float) @ vectors[other])
        for one in range(300)
        for other in range(one)
        if (int(facts.perceptual[one]) ^ int(facts.perceptual[other])).bit_count() > 16
    ]
    found = find_threshold(vectors, facts.perceptual, np.arange(300))
    assert found == pytest.approx(np.quantile(unrelated, 0.999), abs=1e-5)
    assert 0.9 < found < 0.9999
    assert find_threshold(vectors, np.zeros(300, dtype=np.uint64), np.arange(300)) == 0.9
    assert find_threshold(facts.vectors[:4], facts.perceptual[:4], np.arange(4)) == 0.9


def test_groups_say_what_they_hold() -> None:
    facts = repeat(make_facts(100, unlabelled=0), exact=[(1, 50), (1, 60)], near=[(2, 70), (1, 80)])
    told = summarize(facts).duplicates
    assert (told.exact_groups, told.exact_extra) == (1, 2)
    assert (told.near_groups, told.near_images) == (2, 4)
    sizes = {tuple(item.index // 2 for item in group.items): group for group in told.groups}
    assert set(sizes) == {(1, 50, 60, 80), (2, 70)}
    for rows, group in sizes.items():
        assert group.size == len(rows)
        assert not group.exact
        assert set(group.true_labels) == {facts.labels[label] for label in facts.true_label[list(rows)]}
        assert group.min_cosine == pytest.approx(
            float(facts.vectors[rows[0]] @ facts.vectors[rows[-1]]), abs=1e-6
        )
    contradicting = [len(group.true_labels) > 1 for group in told.groups]
    assert sum(contradicting) == told.contradicting_groups
    assert contradicting == sorted(contradicting, reverse=True)
    assert told.compared == 98


def test_items_with_the_same_bytes_are_a_group_of_their_own() -> None:
    facts = repeat(make_facts(60), exact=[(5, 9)])
    (group,) = summarize(facts).duplicates.groups
    assert group.exact
    assert group.min_cosine is None
    assert [item.custom_id for item in group.items] == ["picture-5", "picture-9"]
    assert np.flatnonzero(study(facts).grouping.item_group >= 0).tolist() == [5, 9]


def test_copies_that_contradict_are_pointed_out() -> None:
    facts = repeat(make_facts(60, unlabelled=0), exact=[(5, 9)])
    labels = facts.true_label.copy()
    labels[9] = (labels[5] + 1) % 5
    told = summarize(dataclasses.replace(facts, true_label=labels))
    assert told.duplicates.contradicting_groups == 1
    assert "copies-contradict" in {each.code for each in told.warnings}


def test_the_first_of_a_group_names_it() -> None:
    facts = repeat(make_facts(40), near=[(3, 20), (20, 30)])
    grouping = study(facts).grouping
    assert grouping.item_group[[3, 20, 30]].tolist() == [6, 6, 6]
    assert (np.delete(grouping.item_group, [3, 20, 30]) == -1).all()
    assert grouping.image_group[[3, 20, 30]].tolist() == [3, 3, 3]


def test_pictures_all_alike_are_one_group() -> None:
    facts = make_facts(200)
    alike = dataclasses.replace(
        facts, vectors=np.repeat(facts.vectors[:1], 200, axis=0), perceptual=np.zeros(200, dtype=np.uint64)
    )
    told = summarize(alike)
    assert (told.duplicates.near_groups, told.duplicates.near_images) == (1, 200)
    assert {layer.method for layer in told.layers} == {"cluster-bootstrap"}


def test_a_crowd_of_equal_hashes_is_cut_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.sets.lookalikes.MOST_CHECKED", 1000)
    monkeypatch.setattr("analysis.sets.lookalikes.LEAST_REACH", 5)
    facts = dataclasses.replace(make_facts(300), perceptual=np.zeros(300, dtype=np.uint64))
    assert "duplicates-cut" in {each.code for each in summarize(facts).warnings}
    assert len(pick_images(facts)) == 300
