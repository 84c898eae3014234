"""How far one version lies from another, each number against a computation of its own."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from analysis.sets.drift import gaussian, measure_drift, unbiased_mmd2
from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.notes import Notes
from analysis.sets.schema_pairs import Drift
from jobs.errors import IncomparableError
from tests.unit.sets.made import make_facts, repeat, unit


def drifted(facts: SetFacts, reference: SetFacts, notes: Notes | None = None) -> Drift:
    drift = measure_drift(facts, reference, notes or Notes())
    assert drift is not None
    return drift


def shifted(facts: SetFacts, by: float) -> SetFacts:
    """The same pictures' vectors moved along one direction, as other pictures."""
    moved = facts.vectors.astype(float)
    moved[:, 0] += by
    return dataclasses.replace(facts, vectors=unit(moved))


def mmd2(one: NDArray[np.float64], other: NDArray[np.float64], sigma: float) -> float:
    """Sum by sum, as Gretton et al. (2012) write it."""

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * sigma**2)))

    def within(vectors: NDArray[np.float64]) -> float:
        pairs = [kernel(x, y) for i, x in enumerate(vectors) for j, y in enumerate(vectors) if i != j]
        return sum(pairs) / len(pairs)

    across = [kernel(x, y) for x in one for y in other]
    return within(one) + within(other) - 2 * sum(across) / len(across)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**16), st.floats(0.2, 3))
def test_the_estimate_is_the_unbiased_one(m: int, n: int, seed: int, sigma: float) -> None:
    chance = np.random.default_rng(seed)
    one, other = chance.standard_normal((m, 3)), chance.standard_normal((n, 3)) + 0.5
    first = np.arange(m + n)[:, None] < m
    told = unbiased_mmd2(gaussian(np.concatenate([one, other]), sigma), first, ~first)
    assert told == pytest.approx([mmd2(one, other, sigma)], abs=1e-9)


def test_the_bandwidth_is_the_reference_s() -> None:
    reference, facts = make_facts(60, seed=1), shifted(make_facts(50, seed=2), 0.5)
    told = drifted(facts, reference)
    vectors = reference.vectors.astype(float)
    distances = [np.linalg.norm(vectors[one] - vectors[other]) for one in range(60) for other in range(one)]
    assert told.bandwidth == pytest.approx(np.median(distances), rel=1e-5)
    assert told.mmd2 == pytest.approx(mmd2(vectors, facts.vectors.astype(float), told.bandwidth), abs=1e-6)
    assert (told.reference_n, told.n) == (60, 50)
    assert told.reference_version_id == "version-1"


def test_two_draws_of_one_kind_have_not_drifted() -> None:
    told = drifted(make_facts(300, seed=2), make_facts(300, seed=1))
    assert told.p > 0.05
    assert told.mmd2 < told.null_q95
    assert told.same_set is not None
    assert told.same_set.n == 150
    assert abs(told.same_set.mean) < 0.002
    assert told.classifier is not None
    assert 0.4 < told.classifier.auroc < 0.6


def test_a_shift_is_found() -> None:
    told = drifted(shifted(make_facts(300, seed=2), 0.4), make_facts(300, seed=1))
    assert told.p == pytest.approx(1 / 1001)
    assert told.same_set is not None
    assert told.mmd2 > max(told.null_q95, told.same_set.q95)
    assert told.classifier is not None
    assert told.classifier.auroc > 0.8


def test_the_null_has_the_spread_of_permutations() -> None:
    reference, facts = make_facts(60, seed=1), make_facts(60, seed=2)
    told = drifted(facts, reference)
    everything = np.concatenate([reference.vectors, facts.vectors]).astype(float)
    kernel = gaussian(everything, told.bandwidth)
    chance = np.random.default_rng(4)
    null = []
    for _ in range(2000):
        order = chance.permutation(120)
        one, other = order[:60], order[60:]
        within = kernel[np.ix_(one, one)].sum() + kernel[np.ix_(other, other)].sum()
        null.append(within / (60 * 59) - 2 * kernel[np.ix_(one, other)].mean())
    assert told.null_q95 == pytest.approx(np.quantile(null, 0.95), rel=0.15)
    assert told.p == pytest.approx(np.mean(np.array(null) >= told.mmd2), abs=0.05)


def test_another_mix_of_classes_is_warned_of() -> None:
    reference, facts = make_facts(300, seed=1), make_facts(300, seed=2)
    labels = facts.true_label.copy()
    labels[(labels == 1) & (np.arange(300) % 2 == 0)] = 2
    facts = dataclasses.replace(facts, true_label=labels)
    notes = Notes()
    mix = drifted(facts, reference, notes).class_mix
    assert mix is not None
    counts = np.array(
        [
            np.bincount(each.true_label[each.true_label != UNLABELLED], minlength=5)
            for each in (reference, facts)
        ]
    )
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert mix.total_variation == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    assert mix.p == pytest.approx(chi2_contingency(counts).pvalue)
    assert mix.changed
    assert [each.code for each in notes.said] == ["class-mix-changed"]
    for each in mix.shares:
        label = facts.labels.index(each.label)
        assert (each.reference, each.current) == pytest.approx((shares[0, label], shares[1, label]))
    changes = [abs(each.reference - each.current) for each in mix.shares]
    assert changes == sorted(changes, reverse=True)


def without(facts: SetFacts, label: int) -> SetFacts:
    """As a job finds them that was not asked for the label."""
    left = np.delete(np.arange(len(facts.labels)), label)
    places = np.append(np.where(np.arange(len(facts.labels)) == label, UNLABELLED, 0), UNLABELLED)
    places[left] = np.arange(len(left))
    return dataclasses.replace(
        facts,
        labels=tuple(facts.labels[place] for place in left),
        true_label=places[facts.true_label].astype(np.int32),
        cosine=facts.cosine[:, :, left],
        logit=facts.logit[:, left],
    )


def test_a_label_that_one_job_alone_has_changes_no_mix() -> None:
    reference, facts, notes = make_facts(400, seed=1), make_facts(400, seed=2), Notes()
    mix = drifted(without(facts, 1), reference, notes).class_mix
    assert mix is not None
    assert {each.label for each in mix.shares} == {*facts.labels} - {facts.labels[1]}
    held = [each.true_label[~np.isin(each.true_label, [UNLABELLED, 1])] for each in (reference, facts)]
    counts = np.array([np.bincount(each, minlength=5) for each in held])
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert mix.total_variation == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    assert mix.p == pytest.approx(chi2_contingency(counts[:, [0, 2, 3, 4]]).pvalue)
    assert not mix.changed
    assert not notes.said


def test_jobs_of_one_label_in_common_have_no_mix_and_it_is_said() -> None:
    facts, notes = make_facts(60), Notes()
    renamed = dataclasses.replace(facts, labels=(facts.labels[0], "b", "c", "d", "e"))
    assert drifted(facts, renamed, notes).class_mix is None
    assert [each.code for each in notes.said] == ["drift-none", "class-mix-none"]


def test_the_same_version_has_not_drifted_from_itself() -> None:
    facts, notes = make_facts(2500), Notes()
    told = drifted(facts, facts, notes)
    assert (told.n, told.reference_n, told.shared) == (2000, 2000, 2500)
    assert told.p == 1
    assert told.mmd2 == pytest.approx(0, abs=1e-12)
    assert [each.code for each in notes.said] == ["drift-none"]
    assert told.class_mix is not None
    assert not told.class_mix.changed
    assert told.classifier is None
    assert (told.came, told.went) == ([], [])


def grown(reference: SetFacts, added: SetFacts) -> SetFacts:
    """A version that begins as a copy of another one."""
    names = ("true_label", "contents", "perceptual", "vectors")
    taken: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in (reference, added)]) for name in names
    }
    items = len(taken["contents"])
    return dataclasses.replace(
        make_facts(items), **taken, index=np.arange(items), origin=added.origin, truths=None
    )


def test_what_a_version_took_over_does_not_hide_what_came() -> None:
    reference = make_facts(200, seed=1)
    same = drifted(grown(reference, make_facts(40, seed=2)), reference)
    other = drifted(grown(reference, shifted(make_facts(40, seed=2), 0.8)), reference)
    assert (same.shared, same.n, same.reference_n) == (200, 240, 200)
    assert same.p > 0.1
    assert other.p < 0.005
    assert {item.index >= 200 for item in other.came} == {True}
    assert other.went == []
    assert same.classifier is not None
    assert other.classifier is not None
    assert abs(same.classifier.auroc - 0.5) < 0.15
    assert other.classifier.auroc > 0.75


def test_where_images_only_went_they_are_told_from_those_that_are_left() -> None:
    left = make_facts(100, seed=1)
    told = drifted(left, grown(left, shifted(make_facts(60, seed=2), 0.8)))
    assert told.p < 0.005
    assert told.came == []
    assert {item.index >= 100 for item in told.went} == {True}
    assert told.classifier is not None
    assert told.classifier.auroc > 0.75


def test_a_copy_counts_once() -> None:
    told = drifted(repeat(make_facts(40, seed=2), exact=[(1, 2), (1, 3)]), make_facts(50, seed=1))
    assert (told.n, told.reference_n) == (38, 50)


@pytest.mark.parametrize("images", [2, 3, 5])
def test_a_few_images_have_a_drift_without_its_companions(images: int) -> None:
    told = drifted(make_facts(images, seed=2, unlabelled=1), make_facts(images, seed=1))
    assert told.classifier is None
    assert told.class_mix is None
    assert (told.same_set is None) == (images < 4)


def test_one_image_has_none() -> None:
    notes = Notes()
    assert measure_drift(make_facts(1), make_facts(20), notes) is None
    assert [each.code for each in notes.said] == ["drift-too-few"]


def test_equal_embeddings_have_a_drift_of_nothing() -> None:
    facts = make_facts(30)
    still = dataclasses.replace(facts, vectors=np.full_like(facts.vectors, 0.25))
    notes = Notes()
    told = drifted(still, dataclasses.replace(still, contents=still.contents + 1000), notes)
    assert told.mmd2 == pytest.approx(0, abs=1e-12)
    assert [each.code for each in notes.said] == ["drift-no-spread"]


def test_embeddings_of_different_models_are_refused() -> None:
    facts = make_facts(30)
    other = dataclasses.replace(
        facts, origin=dataclasses.replace(facts.origin, model={**facts.origin.model, "revision": "r2"})
    )
    with pytest.raises(IncomparableError, match="one model"):
        measure_drift(facts, other, Notes())


def test_the_same_seed_gives_the_same_drift() -> None:
    facts, reference = make_facts(80, seed=2), make_facts(90, seed=1)
    assert drifted(facts, reference) == drifted(facts, reference)
