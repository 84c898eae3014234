"""Accuracy by layer: each number against a computation of its own."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import pick_images
from analysis.sets.notes import Notes
from analysis.sets.resampling import RESAMPLES, resample_means
from analysis.sets.schema import Flips, Summary
from analysis.sets.scores import read_scores
from analysis.sets.summary import summarize
from tests.unit.sets.made import dropped, failure, make_facts, repeat


@pytest.fixture(scope="module", name="facts")
def made() -> SetFacts:
    return make_facts(labels=12, images=600, failed=[failure(n, n % 12) for n in range(20)])


@pytest.fixture(scope="module", name="told")
def summarized(facts: SetFacts) -> Summary:
    return summarize(facts)


def test_accuracy_of_a_layer_is_the_share_of_true_labels_on_top(facts: SetFacts, told: Summary) -> None:
    known = facts.true_label != UNLABELLED
    true = facts.true_label[known]
    for place, layer in enumerate(told.layers):
        scores = facts.cosine[known, place]
        assert layer.n == known.sum()
        assert layer.top1 == pytest.approx(np.mean(scores.argmax(axis=1) == true), abs=1e-12)
        assert layer.top5 == pytest.approx(
            np.mean([true[row] in np.argsort(-scores[row])[:5] for row in range(len(true))]), abs=1e-12
        )
        assert layer.balanced == pytest.approx(
            balanced_accuracy_score(true, scores.argmax(axis=1)), abs=1e-12
        )
        assert layer.macro_auroc == pytest.approx(
            np.mean([roc_auc_score(true == label, scores[:, label]) for label in range(12)]), abs=1e-12
        )
        assert layer.auroc_n == layer.n


def test_independent_images_have_the_interval_of_wilson(told: Summary) -> None:
    z = norm.ppf(0.975)
    for layer in told.layers:
        assert layer.method == "wilson"
        assert layer.top1 is not None
        # the interval holds exactly those shares p that the observed one is no further than z from
        for end in (layer.ci_low, layer.ci_high):
            assert end is not None
            assert (layer.top1 - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / layer.n, rel=1e-6)


def test_margins_are_in_standard_deviations_of_the_scores_of_an_image(facts: SetFacts, told: Summary) -> None:
    known = facts.true_label != UNLABELLED
    for place, layer in enumerate(told.layers):
        scores = facts.cosine[:, place].astype(float)
        unit = np.sqrt(scores.var(axis=1).mean())
        ordered = np.sort(scores, axis=1)
        assert layer.mean_top_margin == pytest.approx(
            (ordered[:, -1] - ordered[:, -2]).mean() / unit, rel=1e-5
        )
        margins = [
            scores[row, true] - np.delete(scores[row], true).max()
            for row, true in zip(np.flatnonzero(known), facts.true_label[known], strict=True)
        ]
        assert layer.mean_true_margin == pytest.approx(np.mean(margins) / unit, rel=1e-5)


def test_labels_on_top_are_counted_over_all_images(facts: SetFacts, told: Summary) -> None:
    for place, layer in enumerate(told.layers):
        counts = np.bincount(facts.cosine[:, place].argmax(axis=1), minlength=12)
        assert layer.most_predicted == facts.labels[counts.argmax()]
        assert layer.most_predicted_share == pytest.approx(counts.max() / 600, abs=1e-12)


def test_flips_say_what_became_of_wrong_and_right_labels(facts: SetFacts, told: Summary) -> None:
    known = facts.true_label != UNLABELLED
    top = facts.cosine[known].argmax(axis=2)
    assert told.layers[0].flips is None
    for place in range(1, len(facts.layers)):
        kinds = [
            (before == true, after == true)
            for before, after, true in zip(
                top[:, place - 1], top[:, place], facts.true_label[known], strict=True
            )
            if before != after
        ]
        assert told.layers[place].flips == Flips(
            wrong_right=kinds.count((False, True)),
            right_wrong=kinds.count((True, False)),
            wrong_wrong=kinds.count((False, False)),
        )


def test_baselines_need_no_eyes(facts: SetFacts, told: Summary) -> None:
    known = facts.true_label[facts.true_label != UNLABELLED]
    counts = np.bincount(known)
    assert told.baselines.chance == pytest.approx(1 / 12)
    assert told.baselines.majority == pytest.approx(counts.max() / counts.sum())
    assert told.baselines.majority_label == f"label {counts.argmax()}"


def test_many_failures_bound_accuracy_from_both_sides(facts: SetFacts, told: Summary) -> None:
    for layer in told.layers:
        assert layer.top1 is not None
        hits = round(layer.top1 * layer.n)
        assert layer.worst_case == pytest.approx(hits / (layer.n + 20))
        assert layer.best_case == pytest.approx((hits + 20) / (layer.n + 20))
    assert "many-failed" in {each.code for each in told.warnings}
    # 1 % is not above 1 %
    few = summarize(dataclasses.replace(make_facts(99), failed=[failure(0)]))
    assert few.layers[0].worst_case is None


def test_copies_of_an_image_count_once() -> None:
    facts = make_facts(200, unlabelled=0)
    copied = repeat(facts, exact=[(3, 10), (3, 20), (4, 30)])
    told = summarize(copied)
    kept = np.delete(np.arange(200), [10, 20, 30])
    right = copied.cosine[kept].argmax(axis=2) == copied.true_label[kept, None]
    assert [layer.n for layer in told.layers] == [197] * 4
    assert [layer.top1 for layer in told.layers] == pytest.approx(right.mean(axis=0))
    assert {layer.method for layer in told.layers} == {"wilson"}
    assert told.counts.unique == 197
    assert told.counts.succeeded == 200


def test_a_labelled_copy_speaks_for_one_without_a_label() -> None:
    copied = repeat(make_facts(50, unlabelled=0), exact=[(3, 10)])
    labels = copied.true_label.copy()
    labels[3] = UNLABELLED
    images = pick_images(dataclasses.replace(copied, true_label=labels))
    assert 10 in images.rows
    assert 3 not in images.rows
    assert images.of_row[3] == images.of_row[10]
    assert images.true_label[images.of_row[3]] == copied.true_label[10]


def test_near_duplicates_are_drawn_together() -> None:
    facts = repeat(make_facts(300, unlabelled=0), near=[(n, 150 + n) for n in range(100)])
    told = summarize(facts)
    right = facts.cosine.argmax(axis=2) == facts.true_label[:, None]
    assert {layer.method for layer in told.layers} == {"cluster-bootstrap"}
    assert [layer.n for layer in told.layers] == [300] * 4
    chance = np.random.default_rng(5)
    groups = (
        [[n, 150 + n] for n in range(100)] + [[n] for n in range(100, 150)] + [[n] for n in range(250, 300)]
    )
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([groups[pick] for pick in chance.integers(0, len(groups), len(groups))])
        drawn.append(right[rows].mean(axis=0))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # two independent bootstraps agree within their own noise
    assert [layer.ci_low for layer in told.layers] == pytest.approx(low, abs=0.008)
    assert [layer.ci_high for layer in told.layers] == pytest.approx(high, abs=0.008)


def test_layers_are_compared_on_the_same_images(facts: SetFacts, told: Summary) -> None:
    known = np.flatnonzero(facts.true_label != UNLABELLED)
    right = facts.cosine[known].argmax(axis=2) == facts.true_label[known, None]
    chance = np.random.default_rng(6)
    drawn = np.array([right[chance.integers(0, len(right), len(right))].mean(axis=0) for _ in range(4000)])
    for place, layer in enumerate(told.layers[:-1]):
        assert layer.minus_final is not None
        low, high = np.percentile(drawn[:, place] - drawn[:, -1], [2.5, 97.5])
        assert layer.minus_final.difference == pytest.approx(right[:, place].mean() - right[:, -1].mean())
        assert layer.minus_final.ci_low == pytest.approx(low, abs=0.008)
        assert layer.minus_final.ci_high == pytest.approx(high, abs=0.008)
    assert told.layers[-1].minus_final is None
    shares = [layer.best_share or 0.0 for layer in told.layers]
    assert sum(shares) == pytest.approx(1)
    best = np.bincount(drawn.argmax(axis=1), minlength=4) / 4000
    assert shares == pytest.approx(best, abs=0.05)


def test_layers_that_are_right_on_the_same_images_are_the_best_alike() -> None:
    facts = make_facts(200)
    same = np.repeat(facts.cosine[:, -1:], 4, axis=1)
    told = summarize(dataclasses.replace(facts, cosine=same))
    assert [layer.best_share for layer in told.layers] == pytest.approx([0.25] * 4)


def test_the_limit_of_the_bootstrap_is_what_it_tends_to(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(1)
    right = chance.random((5000, 3)) < [0.2, 0.5, 0.9]
    groups = np.arange(5000) // 2
    exact = resample_means(right, groups, np.random.default_rng(2))
    monkeypatch.setattr("analysis.sets.resampling.MOST_DRAWS", 0)
    limit = resample_means(right, groups, np.random.default_rng(3))
    assert exact.shape == limit.shape == (RESAMPLES, 3)
    assert np.cov(limit.T) == pytest.approx(np.cov(exact.T), abs=4e-6)
    assert limit.mean(axis=0) == pytest.approx(right.mean(axis=0), abs=1e-3)


def test_scores_of_images_are_read_the_same_in_any_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = make_facts(123, labels=11)
    whole, _ = read_scores(facts, pick_images(facts), Notes())
    monkeypatch.setattr("analysis.sets.images.SLICE_BYTES", 700)
    parts, _ = read_scores(facts, pick_images(facts), Notes())
    for field in dataclasses.fields(whole):
        assert getattr(parts, field.name) == pytest.approx(getattr(whole, field.name), nan_ok=True), (
            field.name
        )


def test_items_that_were_never_computed_bound_accuracy_too() -> None:
    facts = make_facts(100, unlabelled=0)
    told = summarize(dataclasses.replace(facts, dropped=dropped([1, 3, 5], [0, UNLABELLED, 2])))
    assert (told.counts.total, told.counts.dropped, told.counts.failed) == (103, 3, 0)
    assert told.counts.labelled == 102
    assert "not-computed" in {each.code for each in told.warnings}
    for layer in told.layers:
        hits = round((layer.top1 or 0) * 100)
        assert (layer.worst_case, layer.best_case) == pytest.approx((hits / 102, (hits + 2) / 102))
