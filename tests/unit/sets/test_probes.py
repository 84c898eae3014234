"""What embeddings say: control, outliers, candidates for label errors, beside computations of their own."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from analysis.sets.control import split
from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.images import Draw, pick_images, sample
from analysis.sets.notes import Notes
from analysis.sets.outliers import score_outliers
from analysis.sets.summary import study, summarize
from tests.unit.sets.made import make_facts, repeat, unit


def local_outlier_factors(vectors: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    """As Breunig et al. (2000) write it, image by image."""
    distance = cdist(vectors, vectors)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :neighbours]
    reach = np.take_along_axis(distance, near, axis=1)[:, -1]
    density = np.array(
        [1 / np.mean(np.maximum(distance[one, near[one]], reach[near[one]])) for one in range(len(vectors))]
    )
    return np.array([density[near[one]].mean() / density[one] for one in range(len(vectors))])


def test_outliers_are_scored_by_the_local_outlier_factor() -> None:
    facts = make_facts(150)
    studied = study(facts)
    wanted = local_outlier_factors(facts.vectors.astype(float), 20)
    assert studied.outliers == pytest.approx(wanted, rel=1e-3)
    told = summarize(facts, studied).outliers
    assert (told.n, told.reference_n, told.neighbours) == (150, 150, 20)
    assert told.median == pytest.approx(np.median(wanted), rel=1e-3)
    assert told.items[0].index == 2 * int(wanted.argmax())
    assert [item.score for item in told.items] == sorted((item.score for item in told.items), reverse=True)


def test_near_duplicates_share_a_score_and_make_no_neighbourhood() -> None:
    facts = repeat(make_facts(80), near=[(0, 40 + n) for n in range(25)])
    outliers = study(facts).outliers
    alone = [0, *range(1, 40), *range(65, 80)]
    wanted = local_outlier_factors(facts.vectors[alone].astype(float), 20)
    assert outliers[alone] == pytest.approx(wanted, rel=1e-3)
    assert (outliers[40:65] == outliers[0]).all()


def test_against_a_sample_what_lies_apart_still_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.sets.outliers.MOST_COMPARED", 100)
    monkeypatch.setattr("analysis.sets.outliers.REFERENCE", 300)
    monkeypatch.setattr("analysis.sets.outliers.DIMENSIONS", 4)
    facts = make_facts(1000)
    wide = np.zeros((1000, 40), dtype=np.float32)
    wide[:, :4] = unit(facts.vectors[:, :4])
    # apart in a direction that no principal axis has
    wide[7] = 0
    wide[7, 39] = 1
    apart = dataclasses.replace(facts, vectors=wide)
    notes = Notes()
    images = pick_images(apart)
    scores, reference = score_outliers(apart, images, np.arange(1000), notes)
    assert reference == 300
    assert [each.code for each in notes.said] == ["outliers-sampled"]
    assert images.rows[int(scores.argmax())] == 7


def test_sampled_images_are_scored_as_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.sets.outliers.MOST_COMPARED", 100)
    monkeypatch.setattr("analysis.sets.outliers.REFERENCE", 300)
    facts = make_facts(600)
    images, notes = pick_images(facts), Notes()
    scores, _ = score_outliers(facts, images, np.arange(600), notes)
    within = sample(np.arange(600), 300, facts.seed, Draw.OUTLIERS)
    wanted = local_outlier_factors(facts.vectors[images.rows[within]].astype(float), 20)
    # all of the width of 16 are principal axes: nothing is lost
    assert scores[within] == pytest.approx(wanted, rel=1e-3)


def test_the_control_is_the_nearest_centroid_of_folds_unseen() -> None:
    facts = repeat(make_facts(300, sampled=200), near=[(n, 299 - n) for n in range(30)])
    told = summarize(facts)
    rows = facts.sampled[facts.true_label[facts.sampled] != UNLABELLED]
    places = np.searchsorted(facts.sampled, rows)
    true = facts.true_label[rows]
    folds = split(study(facts).grouping.image_group[rows], facts.seed)
    for place, layer in enumerate(told.layers):
        hits = 0
        for training, test in folds:
            vectors = facts.layer_vectors[places, place].astype(float)
            centres = np.array(
                [vectors[training][true[training] == label].mean(axis=0) for label in range(5)]
            )
            hits += int((cdist(vectors[test], centres).argmin(axis=1) == true[test]).sum())
        assert layer.control_n == len(rows)
        assert layer.control == pytest.approx(hits / len(rows))
    assert (told.layers[0].control or 1) < (told.layers[-1].control or 0)


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_control_judges_no_image_whose_class_it_has_not_seen() -> None:
    facts = make_facts(26, labels=5, unlabelled=0, seed=3)
    labels = facts.true_label.copy()
    # 0 and 1 are well apart and have many images, of 2, 3 and 4 there is one each
    labels[:] = np.arange(26) % 2
    labels[:3] = 2, 3, 4
    vectors = np.repeat(np.eye(16, dtype=np.float32)[labels][:, None], 4, axis=1)
    told = summarize(dataclasses.replace(facts, true_label=labels, layer_vectors=vectors))
    assert {(layer.control, layer.control_n) for layer in told.layers} == {(1.0, 23)}
    assert "control-left-out" in {each.code for each in told.warnings}


def test_near_duplicates_are_in_one_fold() -> None:
    groups = np.array([0, 1, 0, 2, 3, 1, 4, 5, 6, 0])
    folds = split(groups, 3)
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(10))
    for training, test in folds:
        assert not set(groups[training]) & set(groups[test])


def mislabelled(images: int, wrong: int) -> tuple[SetFacts, set[int]]:
    """A set of well separated labels, some of them turned, and the rows where they are."""
    facts = make_facts(images, unlabelled=0, labels=4)
    chance = np.random.default_rng(8)
    centres = np.eye(4, 16)[facts.true_label] * 4
    rows = chance.choice(images, wrong, replace=False)
    labels = facts.true_label.copy()
    labels[rows] = (labels[rows] + 1) % 4
    vectors = unit(centres + chance.normal(0, 0.3, (images, 16)))
    return dataclasses.replace(facts, vectors=vectors, true_label=labels), set(rows.tolist())


def believe(facts: SetFacts) -> NDArray[np.float64]:
    """Probabilities of a logistic probe [row, label], fold by fold."""
    told = np.zeros((len(facts.index), len(facts.labels)))
    for training, test in split(np.arange(len(facts.index)), facts.seed):
        middle, spread = facts.vectors[training].mean(axis=0), facts.vectors[training].std(axis=0)
        probe = LogisticRegression(C=0.1, max_iter=1000)
        probe.fit((facts.vectors[training] - middle) / spread, facts.true_label[training])
        told[test] = probe.predict_proba((facts.vectors[test] - middle) / spread)
    return told


def confidently_off(probability: NDArray[np.float64], true: NDArray[np.int32]) -> set[int]:
    """Rows off the diagonal of the confident joint (Northcutt et al. 2021, eq. 1)."""
    usual = np.array([probability[true == label, label].mean() for label in range(probability.shape[1])])
    off = set()
    for row, label in enumerate(true):
        above = np.flatnonzero(probability[row] >= usual)
        if len(above) and above[probability[row, above].argmax()] != label:
            off.add(row)
    return off


def test_labels_that_the_probe_does_not_believe_are_candidates() -> None:
    facts, wrong = mislabelled(300, 9)
    told = summarize(facts).label_candidates
    assert (told.n, told.folds) == (300, 5)
    assert told.probe_top1 == pytest.approx(1 - 9 / 300)
    found = [item.index // 2 for item in told.items]
    assert told.found == len(found)
    probability = believe(facts)
    assert set(found) == confidently_off(probability, facts.true_label)
    assert set(found) <= wrong
    assert len(found) > 4
    for item in told.items:
        row = item.index // 2
        assert item.true_label == facts.labels[facts.true_label[row]]
        assert item.suggested == facts.labels[(facts.true_label[row] - 1) % 4]
        assert item.true_probability == pytest.approx(probability[row, facts.true_label[row]], abs=1e-4)
        assert item.suggested_probability == pytest.approx(probability[row].max(), abs=1e-4)
    believed = [item.true_probability for item in told.items]
    assert believed == sorted(believed)


def test_a_label_of_few_images_is_not_judged() -> None:
    facts, _ = mislabelled(200, 0)
    labels = facts.true_label.copy()
    rare = np.flatnonzero(labels == 3)[4:]
    labels[rare] = UNLABELLED
    told = summarize(dataclasses.replace(facts, true_label=labels))
    assert told.label_candidates.n == 200 - len(rare) - 4
    assert "candidates-small-classes" in {each.code for each in told.warnings}


def test_equal_embeddings_of_different_pictures_are_pointed_out() -> None:
    facts = make_facts(120)
    vectors = facts.vectors.copy()
    vectors[40:] = vectors[40]
    notes = Notes()
    score_outliers(dataclasses.replace(facts, vectors=vectors), pick_images(facts), np.arange(120), notes)
    assert [each.code for each in notes.said] == ["outliers-equal"]
