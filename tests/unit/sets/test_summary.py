"""The summary as a whole: sets that have little to say, equal numbers every time, no copy of the scores."""

import dataclasses
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sets.facts import UNLABELLED, SetFacts
from analysis.sets.items import ITEM_COLUMNS, item_columns
from analysis.sets.schema import Export, Summary, Warned
from analysis.sets.summary import study, summarize
from tests.unit.sets.made import failure, make_facts, repeat


def codes(told: Summary) -> set[str]:
    return {each.code for each in told.warnings}


def take(facts: SetFacts, rows: list[int]) -> SetFacts:
    """Only these rows of the set."""
    by_row = ("index", "true_label", "contents", "perceptual", "cosine", "logit", "vectors")
    return dataclasses.replace(
        facts,
        **{name: getattr(facts, name)[rows] for name in by_row},
        custom_ids=facts.custom_ids.take(pa.array(rows, pa.int64())),
        sampled=np.arange(len(rows), dtype=np.int64),
        layer_vectors=facts.layer_vectors[rows],
    )


def test_a_summary_says_what_it_is_of() -> None:
    facts = make_facts(60, failed=[failure(1, code="b"), failure(2, 0, code="a"), failure(3, code="b")])
    export = Export(name="items.parquet", media_type="x/y", rows=60, size_bytes=1, sha256="0" * 64)
    told = summarize(facts, exports=[export], warnings=[Warned(code="said", message="Beside.")])
    assert told.schema_version == 1
    assert (told.job_id, told.version_id, told.manifest_sha256) == ("job-1", "version-1", "ab" * 32)
    assert told.model == facts.origin.model
    assert told.labels == list(facts.labels)
    assert told.counts.model_dump() == {
        "total": 63,
        "unique": 60,
        "succeeded": 60,
        "failed": 3,
        "dropped": 0,
        "retried": 0,
        "by_error": {"b": 2, "a": 1},
        "labelled": int((facts.true_label != UNLABELLED).sum()) + 1,
    }
    assert [layer.layer for layer in told.layers] == [0, 2, 4, 6]
    assert told.exports == [export]
    assert told.warnings[-1].code == "said"
    assert Summary.model_validate_json(told.model_dump_json()) == told


def test_every_field_is_described_or_says_itself() -> None:
    schema = json.dumps(Summary.model_json_schema())
    assert schema.count('"description"') > 100


def test_the_same_seed_gives_the_same_summary() -> None:
    facts = repeat(make_facts(200), near=[(1, 2)])
    told = summarize(facts)
    assert summarize(facts, study(facts)) == told
    other = summarize(dataclasses.replace(facts, seed=1))
    assert other.layers[0].ci_low != told.layers[0].ci_low or other.layers[1].ci_low != told.layers[1].ci_low
    assert [layer.top1 for layer in other.layers] == [layer.top1 for layer in told.layers]


def test_true_labels_that_no_label_has_are_named() -> None:
    strange = {"a horse": 1_000, **{f"a {name}": 2 for name in "abcde"}}
    told = summarize(dataclasses.replace(make_facts(60), strange=strange))
    (said,) = [each.message for each in told.warnings if each.code == "unknown-true-labels"]
    assert "1,010 true labels" in said
    assert "'a horse' (1,000), 'a a' (2)" in said
    assert "and 1 more" in said


def test_without_true_labels_nothing_is_said_of_accuracy() -> None:
    told = summarize(make_facts(80, unlabelled=1))
    assert "no-true-labels" in codes(told)
    for layer in told.layers:
        assert layer.n == 0
        assert layer.most_predicted_share is not None
        assert layer.mean_top_margin is not None
        for name in (
            "top1",
            "ci_low",
            "method",
            "balanced",
            "control",
            "macro_auroc",
            "mean_true_margin",
            "flips",
        ):
            assert getattr(layer, name) is None, name
        assert layer.minus_final is None
        assert layer.best_share is None
    assert told.baselines.majority is None
    assert told.confusion.matrix == []
    assert [curve.n for curve in told.settle.curves] == [80, 0, 0]
    assert {each.n for each in told.classes} == {0}


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_few_images_are_told_as_few(rows: int) -> None:
    facts = take(make_facts(20, unlabelled=0), list(range(rows)))
    facts = dataclasses.replace(facts, failed=[failure(n, 1) for n in range(3)])
    told = summarize(facts)
    assert told.counts.succeeded == rows
    assert told.counts.labelled == rows + 3
    assert [layer.n for layer in told.layers] == [rows] * 4
    assert told.layers[0].worst_case is not None
    assert told.outliers.n == 0
    assert told.outliers.median is None
    assert told.label_candidates.n == 0
    assert {"outliers-too-few", "candidates-none"} <= codes(told)
    assert ("no-images" in codes(told)) == (rows == 0)
    assert sum(batch.num_rows for batch in item_columns(facts, study(facts))) == rows
    json.loads(told.model_dump_json())


def test_one_class_leaves_nothing_to_tell_apart() -> None:
    facts = make_facts(80, unlabelled=0)
    told = summarize(dataclasses.replace(facts, true_label=np.zeros(80, dtype=np.int32)))
    assert {"one-class", "control-none", "auroc-none", "candidates-none"} <= codes(told)
    assert told.layers[0].control is None
    assert told.layers[0].macro_auroc is None
    assert told.baselines.majority == 1


def test_one_label_is_always_right_and_has_no_margin() -> None:
    told = summarize(make_facts(80, labels=1))
    assert {"one-label", "control-none"} <= codes(told)
    assert {layer.top1 for layer in told.layers} == {1.0}
    assert {layer.mean_top_margin for layer in told.layers} == {None}
    assert {layer.mean_true_margin for layer in told.layers} == {None}


def test_scores_and_embeddings_that_never_differ_break_nothing() -> None:
    facts = make_facts(80)
    told = summarize(
        dataclasses.replace(
            facts,
            cosine=np.full_like(facts.cosine, 0.5),
            vectors=np.full_like(facts.vectors, 0.25),
            layer_vectors=np.full_like(facts.layer_vectors, 0.25),
        )
    )
    assert {"scores-constant", "control-none", "labels-concentrated"} <= codes(told)
    for layer in told.layers:
        assert layer.most_predicted == "label 0"
        assert layer.mean_top_margin is None
        assert layer.macro_auroc == pytest.approx(0.5)
        assert layer.control is None
    assert told.settle.late == []


def test_images_whose_scores_are_no_numbers_are_left_out() -> None:
    facts = make_facts(100, unlabelled=0)
    cosine = facts.cosine.copy()
    cosine[3, 1, 2] = np.nan
    cosine[4] = np.inf
    broken = dataclasses.replace(facts, cosine=cosine)
    told = summarize(broken)
    assert "scores-not-finite" in codes(told)
    kept = np.delete(np.arange(100), [3, 4])
    right = facts.cosine[kept].argmax(axis=2) == facts.true_label[kept, None]
    assert [layer.n for layer in told.layers] == [98] * 4
    assert [layer.top1 for layer in told.layers] == pytest.approx(right.mean(axis=0))
    assert told.settle.curves[0].n == 98
    assert np.isnan(
        np.concatenate([batch["outlier_score"] for batch in item_columns(broken, study(broken))])[3]
    )


def test_items_have_the_columns_of_their_file() -> None:
    facts = repeat(make_facts(70), exact=[(5, 9)], near=[(6, 30)])
    studied = study(facts)
    (batch,) = item_columns(facts, studied)
    assert batch.schema == ITEM_COLUMNS
    rows = batch.to_pylist()
    for row, told in enumerate(rows):
        top = facts.cosine[row].argmax(axis=1).tolist()
        place = next(place for place in range(4) if set(top[place:]) == {top[-1]})
        right = top[-1] == facts.true_label[row]
        assert told["index"] == facts.index[row]
        assert told["top_final"] == facts.labels[top[-1]]
        assert told["settle_layer"] == facts.layers[place]
        assert told["settle_correct_layer"] == (facts.layers[place] if right else None)
        assert told["flips"] == sum(one != other for one, other in pairwise(top))
        assert told["dup_group"] == {5: 10, 9: 10, 6: 12, 30: 12}.get(row)
        assert told["outlier_score"] == pytest.approx(studied.outliers[studied.images.of_row[row]])


def test_no_copy_of_the_scores_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.sets.outliers.MOST_COMPARED", 5000)
    shape = (50_000, 8, 60)
    mapped = np.memmap(tmp_path / "cosine", dtype=np.float32, mode="w+", shape=shape)
    facts = make_facts(50_000, labels=60, layers=range(8), sampled=500, cosine=mapped)
    facts = dataclasses.replace(facts, logit=facts.logit[:0])
    tracemalloc.start()
    told = summarize(facts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [layer.n for layer in told.layers] == [int((facts.true_label != UNLABELLED).sum())] * 8
    assert mapped.nbytes == 96_000_000
    # slices of 16 MiB and the columns of 50,000 items
    assert peak < 0.9 * mapped.nbytes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_the_set_there_is_a_summary(data: st.DataObject) -> None:
    images = data.draw(st.integers(1, 40), "images")
    labels = data.draw(st.integers(1, 12), "labels")
    facts = make_facts(
        images,
        labels=labels,
        layers=data.draw(st.sampled_from([(0,), (6,), (0, 3), (1, 2, 12)]), "layers"),
        unlabelled=data.draw(st.sampled_from([0, 0.5, 1]), "unlabelled"),
        seed=data.draw(st.sampled_from([0, 2**40]), "seed"),
        failed=[
            failure(n, data.draw(st.integers(-1, labels - 1))) for n in range(data.draw(st.integers(0, 2)))
        ],
    )
    row = st.tuples(st.integers(0, images - 1), st.integers(0, images - 1))
    facts = repeat(
        facts, exact=data.draw(st.lists(row, max_size=20)), near=data.draw(st.lists(row, max_size=20))
    )
    coarse = data.draw(st.sampled_from([1, 0.1, 1000]), "coarse")
    kept = data.draw(st.integers(0, images), "sampled")
    facts = dataclasses.replace(
        facts,
        cosine=np.round(facts.cosine / np.float32(coarse)).astype(np.float32),
        sampled=facts.sampled[:kept],
        layer_vectors=facts.layer_vectors[:kept],
    )
    studied = study(facts)
    told = summarize(facts, studied)
    assert Summary.model_validate_json(told.model_dump_json()) == told
    assert len(told.layers) == len(facts.layers)
    assert sum(batch.num_rows for batch in item_columns(facts, studied)) == images
    for layer in told.layers:
        assert (layer.top1 is None) == (layer.n == 0)
        if layer.top1 is not None:
            assert layer.ci_low is not None
            assert layer.ci_high is not None
            assert layer.ci_low - 1e-9 <= layer.top1 <= layer.ci_high + 1e-9
        # what is null is explained
        if layer.top1 is None or layer.control is None or layer.macro_auroc is None:
            assert codes(told) & {"no-true-labels", "control-none", "auroc-none"}
