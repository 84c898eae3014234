"""True labels one by one, confusions and settling, each number against a computation of its own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.schema import Summary
from analysis.sets.scores import settle
from analysis.sets.summary import summarize
from tests.unit.sets.made import make_facts, repeat


@pytest.fixture(scope="module", name="facts")
def made() -> SetFacts:
    return make_facts(130, labels=7, seed=4)


@pytest.fixture(scope="module", name="told")
def summarized(facts: SetFacts) -> Summary:
    return summarize(facts)


def settled_place(tops: list[int]) -> int:
    """The first place from which nothing but the last label comes."""
    return next(place for place in range(len(tops)) if set(tops[place:]) == {tops[-1]})


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_an_image_settles_where_its_final_label_begins_to_hold(tops: list[int]) -> None:
    assert settle(np.array([tops], dtype=np.int16)).tolist() == [settled_place(tops)]


def test_confusion_counts_true_against_top_labels(facts: SetFacts, told: Summary) -> None:
    known = facts.true_label != UNLABELLED
    true, top = facts.true_label[known], facts.cosine[known, -1].argmax(axis=1)
    wanted = confusion_matrix(true, top, labels=range(7))
    assert told.confusion.n == known.sum()
    assert told.confusion.matrix == wanted.tolist()
    off = wanted - np.diag(np.diag(wanted))
    assert [pair.count for pair in told.confusion.pairs] == sorted(off[off > 0].tolist(), reverse=True)[:30]
    for pair in told.confusion.pairs:
        one, other = facts.labels.index(pair.true_label), facts.labels.index(pair.top)
        assert pair.count == wanted[one, other]
        assert pair.share == pytest.approx(wanted[one, other] / wanted[one].sum())
        rows = [item.index // 2 for item in pair.items]
        behind = facts.cosine[rows, -1, one] - facts.cosine[rows, -1, other]
        assert (np.diff(behind) >= 0).all()
        assert (facts.true_label[rows] == one).all()


def test_a_class_has_its_recall_precision_and_curves(facts: SetFacts, told: Summary) -> None:
    known = np.flatnonzero(facts.true_label != UNLABELLED)
    true, top = facts.true_label[known], facts.cosine[known].argmax(axis=2)
    recall = recall_score(true, top[:, -1], average=None, labels=range(7))
    precision = precision_score(true, top[:, -1], average=None, labels=range(7))
    settled = np.array([settled_place(row) for row in top.tolist()])
    layers = np.array(facts.layers)
    assert {each.label for each in told.classes} == set(facts.labels)
    for each in told.classes:
        label = facts.labels.index(each.label)
        own = true == label
        assert each.n == own.sum()
        assert each.ranked == (own.sum() >= 20)
        assert each.recall == pytest.approx(recall[label])
        assert each.precision == pytest.approx(precision[label])
        assert each.predicted == (top[:, -1] == label).sum()
        assert each.recall_by_layer == pytest.approx((top[own] == label).mean(axis=0))
        assert each.settled_by_layer == pytest.approx([(settled[own] <= place).mean() for place in range(4)])
        assert each.median_settle_layer == np.median(layers[settled[own]])
        assert each.ci_low is not None
        assert each.ci_high is not None
        assert each.recall is not None
        assert each.ci_low <= each.recall <= each.ci_high


def test_near_duplicates_make_the_interval_of_a_class_wider_and_no_ranking() -> None:
    facts = make_facts(120, labels=2, unlabelled=0, seed=3)
    facts = dataclasses.replace(facts, true_label=(np.arange(120) >= 60).astype(np.int32))
    # of each ten images of the first label nine look like one, and are read as that
    tens = [(first, first + n) for first in range(0, 60, 10) for n in range(1, 10)]
    near = repeat(facts, near=tens)
    cosine = near.cosine.copy()
    for first, second in tens:
        cosine[second] = cosine[first]
    # half of the groups are right
    cosine[:60, -1] = np.where(np.arange(60)[:, None] < 30, [1, 0], [0, 1])
    told = {each.label: each for each in summarize(dataclasses.replace(near, cosine=cosine)).classes}
    one, other = told["label 0"], told["label 1"]
    assert (one.n, one.groups, one.ranked, one.method) == (60, 6, False, "cluster-bootstrap")
    assert (other.n, other.groups, other.ranked, other.method) == (60, 60, True, "wilson")
    assert one.recall == 0.5
    assert one.ci_low is not None
    assert one.ci_high is not None
    # shares of six draws: 1/6 to 5/6
    assert (one.ci_low, one.ci_high) == pytest.approx((1 / 6, 5 / 6), abs=0.05)
    cosine[:60, -1] = [1, 0]
    right = {each.label: each for each in summarize(dataclasses.replace(near, cosine=cosine)).classes}
    low, high = proportion_confint(6, 6, method="wilson")
    assert right["label 0"].method == "wilson-of-groups"
    assert (right["label 0"].ci_low, right["label 0"].ci_high) == pytest.approx((low, high))


def test_classes_of_few_images_are_shown_behind_the_ranked_ones(told: Summary) -> None:
    ranked = [each for each in told.classes if each.ranked]
    rest = [each for each in told.classes if not each.ranked]
    assert ranked
    assert rest
    assert told.classes == ranked + rest
    assert [each.recall for each in ranked] == sorted(each.recall or 0.0 for each in ranked)
    assert [each.n for each in rest] == sorted((each.n for each in rest), reverse=True)
    assert "small-classes" in {each.code for each in told.warnings}


def test_settle_curves_are_of_finally_right_and_finally_wrong_images(facts: SetFacts, told: Summary) -> None:
    top = facts.cosine.argmax(axis=2)
    settled = np.array([settled_place(row) for row in top.tolist()])
    known = facts.true_label != UNLABELLED
    right = top[:, -1] == facts.true_label
    kinds = {"all": np.ones(130, dtype=bool), "right": right, "wrong": known & ~right}
    assert told.settle.depth == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [curve.of for curve in told.settle.curves] == list(kinds)
    for curve, kept in zip(told.settle.curves, kinds.values(), strict=True):
        assert curve.n == kept.sum()
        assert curve.counts == [int((settled[kept] == place).sum()) for place in range(4)]
        assert curve.cumulative == pytest.approx([(settled[kept] <= place).mean() for place in range(4)])
        assert curve.median == np.median(np.array(facts.layers)[settled[kept]])


def test_late_flips_come_latest_and_clearest_first(facts: SetFacts, told: Summary) -> None:
    top = facts.cosine.argmax(axis=2)
    assert told.settle.late
    told_rows = [item.index // 2 for item in told.settle.late]
    ordered = np.sort(facts.cosine[told_rows, -1], axis=1)
    keys = [
        (-item.settle_layer, -float(margin))
        for item, margin in zip(told.settle.late, ordered[:, -1] - ordered[:, -2], strict=True)
    ]
    assert keys == sorted(keys)
    for item, row in zip(told.settle.late, told_rows, strict=True):
        place = settled_place(top[row].tolist())
        assert item.settle_layer == facts.layers[place]
        assert item.before == facts.labels[top[row, place - 1]]
        assert item.top == facts.labels[top[row, -1]]
        label = facts.true_label[row]
        assert item.true_label == (None if label == UNLABELLED else facts.labels[label])
