"""Two jobs over one version, each number against a computation of its own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from analysis.sets.comparison import compare, match_layers, mcnemar_p
from analysis.sets.facts import UNLABELLED, SetFacts, Truths
from analysis.sets.notes import Notes
from analysis.sets.schema_pairs import Comparison
from analysis.sets.summary import study
from jobs.errors import IncomparableError
from tests.unit.sets.made import make_facts, repeat


def second_job(facts: SetFacts, *, seed: int = 7, noise: float = 0.03) -> SetFacts:
    """Another model's scores of the same items."""
    chance = np.random.default_rng(seed)
    origin = dataclasses.replace(facts.origin, job_id="job-2", model={"id": "other"})
    cosine = facts.cosine + chance.normal(0, noise, facts.cosine.shape).astype(np.float32)
    return dataclasses.replace(facts, origin=origin, cosine=cosine)


def compared(facts: SetFacts, other: SetFacts, notes: Notes | None = None) -> Comparison:
    return compare(facts, study(facts), other, notes or Notes())


def right(facts: SetFacts, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(facts.cosine[rows].argmax(axis=2) == facts.true_label[rows, None])


def exact_p(one: int, other: int) -> float:
    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def test_jobs_are_compared_on_the_same_images() -> None:
    facts = make_facts(500)
    other = second_job(facts)
    told = compared(facts, other)
    known = np.flatnonzero(facts.true_label != UNLABELLED)
    mine, theirs = right(facts, known), right(other, known)
    assert (told.other_job_id, told.other_model) == ("job-2", {"id": "other"})
    assert (told.n, told.tested, told.left_out) == (len(known), len(known), 0)
    assert told.method == "paired-bootstrap"
    chance = np.random.default_rng(2)
    picks = [chance.integers(0, len(known), len(known)) for _ in range(4000)]
    drawn = np.array([(mine[rows].mean(axis=0) - theirs[rows].mean(axis=0)) for rows in picks])
    for place, layer in enumerate(told.layers):
        assert layer.layer == layer.other_layer == facts.layers[place]
        assert layer.top1 == pytest.approx(mine[:, place].mean())
        assert layer.other_top1 == pytest.approx(theirs[:, place].mean())
        assert layer.difference == pytest.approx(mine[:, place].mean() - theirs[:, place].mean())
        low, high = np.percentile(drawn[:, place], [2.5, 97.5])
        assert layer.ci_low == pytest.approx(low, abs=0.006)
        assert layer.ci_high == pytest.approx(high, abs=0.006)
        assert layer.only_this == (mine & ~theirs)[:, place].sum()
        assert layer.only_other == (~mine & theirs)[:, place].sum()


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_exact_for_few_and_corrected_for_many(one: int, other: int) -> None:
    p, name = mcnemar_p(one, other)
    if one + other < 25:
        assert name == "mcnemar-exact"
        assert p == pytest.approx(exact_p(one, other), abs=1e-9)
    else:
        assert name == "mcnemar-chi-squared"
        assert p == pytest.approx(chi2.sf((abs(one - other) - 1) ** 2 / (one + other), 1), abs=1e-9)


def test_the_final_layer_is_tested_as_planned_and_the_rest_after_holm() -> None:
    facts = make_facts(500)
    told = compared(facts, second_job(facts, noise=0.06))
    assert told.layers[-1].p_holm is None
    ordered = sorted(told.layers[:-1], key=lambda layer: layer.p)
    least = 0.0
    for rank, layer in enumerate(ordered):
        least = max(least, min(1.0, layer.p * (len(ordered) - rank)))
        assert layer.p_holm == pytest.approx(least)


def test_near_duplicates_count_as_one_image_to_the_test() -> None:
    facts = repeat(make_facts(300, unlabelled=0), near=[(n, 150 + n) for n in range(100)])
    other = second_job(facts)
    told = compared(facts, other)
    assert (told.n, told.tested, told.method) == (300, 200, "paired-cluster-bootstrap")
    alone = np.array([*range(150), *range(250, 300)])
    mine, theirs = right(facts, alone), right(other, alone)
    assert [layer.only_this for layer in told.layers] == (mine & ~theirs).sum(axis=0).tolist()
    assert [layer.only_other for layer in told.layers] == (~mine & theirs).sum(axis=0).tolist()
    assert told.layers[-1].top1 == pytest.approx(right(facts, np.arange(300))[:, -1].mean())


def test_layers_meet_where_their_depth_is_nearest() -> None:
    assert match_layers((0, 6, 12), (0, 9, 18, 27)) == [0, 1, 3]
    assert match_layers((0, 1, 2, 3, 4), (0, 2, 4)) == [0, 0, 1, 1, 2]
    assert match_layers((0,), (0, 5)) == [0]


def test_models_of_different_depth_are_compared_on_it() -> None:
    facts = make_facts(200)
    deep = dataclasses.replace(
        second_job(facts), layers=(0, 12, 24), cosine=second_job(facts).cosine[:, [0, 2, 3]]
    )
    told = compared(facts, deep)
    assert [(layer.layer, layer.other_layer) for layer in told.layers] == [(0, 0), (2, 12), (4, 12), (6, 24)]


def test_two_label_sets_need_a_mapping_to_the_same_truth() -> None:
    facts = make_facts(300, unlabelled=0)
    renamed = dataclasses.replace(second_job(facts), labels=("a", "b", "c", "d", "e"))
    with pytest.raises(IncomparableError, match="different labels"):
        compared(facts, renamed)
    notes = Notes()
    same = {name: label for name, label in zip(renamed.labels, facts.labels, strict=True) if name != "e"}
    told = compare(facts, study(facts), renamed, notes, same)
    judged = np.flatnonzero(facts.true_label != 4)
    assert (told.n, told.left_out) == (len(judged), 300 - len(judged))
    assert told.layers[-1].top1 == pytest.approx(right(facts, judged)[:, -1].mean())
    assert [each.code for each in notes.said] == ["comparison-left-out"]
    # a version calls its truths by one name each, and so one of the jobs does not know them
    unknown = dataclasses.replace(renamed, true_label=np.full(300, UNLABELLED, np.int32))
    assert compare(facts, study(facts), unknown, Notes(), same).layers == told.layers
    with pytest.raises(IncomparableError, match="'nothing' is none"):
        compare(facts, study(facts), renamed, notes, {"a": "nothing"})


def test_labels_in_another_order_are_the_same_labels() -> None:
    facts = make_facts(200)
    order = [3, 1, 4, 0, 2]
    places = np.argsort(order)
    shuffled = dataclasses.replace(
        facts,
        labels=tuple(facts.labels[label] for label in order),
        cosine=facts.cosine[:, :, order],
        true_label=np.where(facts.true_label < 0, UNLABELLED, places[facts.true_label]).astype(np.int32),
    )
    told = compared(facts, shuffled)
    assert told.left_out == 0
    assert {layer.difference for layer in told.layers} == {0.0}
    assert {layer.p for layer in told.layers} == {1.0}


def test_items_that_one_job_alone_has_are_left_out() -> None:
    facts = make_facts(100, unlabelled=0)
    by_row = ("index", "true_label", "contents", "perceptual", "cosine", "logit", "vectors")
    fewer = {name: getattr(facts, name)[10:] for name in by_row}
    cosine = fewer["cosine"].copy()
    cosine[0, 0, 0] = np.nan
    other = dataclasses.replace(
        facts,
        **{**fewer, "cosine": cosine},
        custom_ids=facts.custom_ids[10:],
        sampled=np.arange(0),
        layer_vectors=facts.layer_vectors[:0],
    )
    told = compared(facts, other)
    assert (told.n, told.left_out) == (89, 11)


def test_without_a_common_truth_there_is_nothing_to_compare() -> None:
    facts = make_facts(50, unlabelled=1)
    told = compared(facts, second_job(facts))
    assert (told.n, told.tested, told.layers) == (0, 0, [])


def test_where_several_labels_may_be_true_every_labelled_image_is_left_out_and_it_is_said() -> None:
    facts = make_facts(50)
    known = facts.true_label != UNLABELLED
    several = dataclasses.replace(
        facts,
        true_label=np.full_like(facts.true_label, UNLABELLED),
        truths=Truths(np.concatenate([[0], np.cumsum(known)]), facts.true_label[known]),
    )
    notes = Notes()
    told = compared(several, second_job(several), notes)
    assert (told.n, told.left_out, told.layers) == (0, int(known.sum()), [])
    assert [each.code for each in notes.said] == ["comparison-multi-label"]


def test_jobs_over_different_versions_are_refused() -> None:
    facts = make_facts(50)
    with pytest.raises(IncomparableError, match="same version"):
        compared(facts, make_facts(50, version="version-2"))
