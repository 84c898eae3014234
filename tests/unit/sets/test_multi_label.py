"""Sets of which several labels may be true: each label by itself, beside scikit-learn on exported rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.sets.facts import UNLABELLED, SampledMaps, SetFacts, Truths
from analysis.sets.findings import ITEMS, LAYERS, write_findings
from analysis.sets.summary import summarize
from tests.unit.sets.made import failure, make_facts, repeat


def with_truths(facts: SetFacts) -> SetFacts:
    """The true label of each row and mostly another one; of unlabelled rows none."""
    chance = np.random.default_rng(2)
    several = [
        [] if label == UNLABELLED else sorted({int(label), int(chance.integers(len(facts.labels)))})
        for label in facts.true_label
    ]
    return dataclasses.replace(
        facts,
        true_label=np.full_like(facts.true_label, UNLABELLED),
        truths=Truths(
            np.cumsum([0, *map(len, several)], dtype=np.int64),
            np.array([label for labels in several for label in labels], dtype=np.int32),
        ),
        failed=[dataclasses.replace(failure(1), true_labels=(0, 2))],
    )


def test_each_label_is_told_by_auroc_and_average_precision_of_the_exported_rows(tmp_path: Path) -> None:
    facts = with_truths(make_facts(120))
    told = write_findings(facts, tmp_path)
    items = pd.read_parquet(tmp_path / ITEMS).set_index("index")["true_labels"]
    assert list(items[3]) == ["label 0", "label 2"]
    known = items.dropna().drop(index=3)
    truths = np.array([[label in labels for label in told.labels] for labels in known])
    layers = pd.read_parquet(tmp_path / LAYERS)
    for layer in told.layers:
        rows = layers[layers["layer"] == layer.layer].set_index("index").loc[known.index]
        scores = np.stack(rows["scores"].to_list())
        assert layer.macro_auroc == pytest.approx(roc_auc_score(truths, scores), abs=1e-12)
        assert layer.macro_ap == pytest.approx(average_precision_score(truths, scores), abs=1e-12)
        assert layer.auroc_n == len(known)
    assert told.multi_label is not None
    assert (told.multi_label.n, told.counts.labelled) == (len(known), len(known) + 1)
    assert told.multi_label.mean_labels == pytest.approx(truths.sum(axis=1).mean())
    for each in told.multi_label.labels:
        label = told.labels.index(each.label)
        assert each.n == truths[:, label].sum()
        assert each.auroc == pytest.approx(roc_auc_score(truths[:, label], scores[:, label]))
        assert each.average_precision == pytest.approx(
            average_precision_score(truths[:, label], scores[:, label])
        )
    aurocs = [each.auroc for each in told.multi_label.labels if each.auroc is not None]
    assert aurocs == sorted(aurocs)


def test_nothing_that_takes_a_single_true_label_is_told() -> None:
    told = summarize(with_truths(repeat(make_facts(120), near=[(1, 2)])))
    codes = {each.code for each in told.warnings}
    assert "multi-label" in codes
    assert not codes & {"no-true-labels", "candidates-none", "control-none", "copies-contradict"}
    for layer in told.layers:
        assert (layer.n, layer.top1, layer.balanced, layer.flips) == (0, None, None, None)
        assert (layer.control, layer.worst_case, layer.minus_final) == (None, None, None)
    assert told.confusion.matrix == []
    assert told.label_candidates.items == []
    assert {each.n for each in told.classes} == {0}
    assert [curve.n for curve in told.settle.curves] == [120, 0, 0]


def test_a_set_of_single_labels_has_no_average_precision() -> None:
    told = summarize(make_facts(60))
    assert told.multi_label is None
    assert {layer.macro_ap for layer in told.layers} == {None}


def test_a_label_that_is_true_of_all_or_of_none_is_told_last_without_numbers() -> None:
    facts = make_facts(20, labels=3, unlabelled=0)
    truths = Truths(np.arange(0, 41, 2), np.tile([0, 1], 20).astype(np.int32))
    true = np.full_like(facts.true_label, UNLABELLED)
    told = summarize(dataclasses.replace(facts, true_label=true, truths=truths))
    assert told.multi_label is not None
    assert [(each.label, each.n, each.auroc) for each in told.multi_label.labels] == [
        ("label 0", 20, None),
        ("label 1", 20, None),
        ("label 2", 0, None),
    ]
    assert "auroc-none" in {each.code for each in told.warnings}


def test_maps_of_a_label_are_of_all_images_that_it_is_true_of() -> None:
    facts = with_truths(make_facts(80, unlabelled=0))
    assert facts.truths is not None
    values = np.random.default_rng(3).normal(0, 1, (80, 5, 2, 2)).astype(np.float16)
    told = summarize(dataclasses.replace(facts, maps=SampledMaps(np.arange(80), values, 6, "value")))
    truths = facts.truths.of(np.arange(80), 5)
    assert told.label_maps is not None
    for each in told.label_maps.labels:
        label = told.labels.index(each.label)
        own, others = values[truths[:, label], label], values[~truths[:, label], label]
        wanted = own.mean(axis=0, dtype=float) - others.mean(axis=0, dtype=float)
        assert (each.n, each.n_other) == (len(own), len(others))
        assert each.highest == pytest.approx(wanted.max())
