"""The files of a set: opened by the readers that people have, and held against the arrays they come from."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.sets.exports import (
    METADATA,
    ROW_GROUP,
    write_embeddings,
    write_errors,
    write_items,
    write_layers,
)
from analysis.sets.facts import UNLABELLED, FailedItem, Origin, SetFacts
from analysis.sets.items import item_columns
from analysis.sets.summary import study
from tests.unit.sets.made import dropped

LAYERS = (0, 1, 2)
LABELS = ("ring", "square", "arrow", "star")
WIDTH = 5


def make_facts(items: int, labels: tuple[str, ...] = LABELS) -> SetFacts:
    """Random numbers in the place of a lens; every third item lacks its true label, the last one failed."""
    chance = np.random.default_rng(7)
    cosine = chance.normal(size=(items, len(LAYERS), len(labels))).astype(np.float32)
    sampled = np.arange(0, items, 2)
    return SetFacts(
        origin=Origin("job_1", "isv_1", "ab", {"id": "m"}),
        layers=LAYERS,
        labels=labels,
        index=np.arange(items, dtype=np.int64),
        custom_ids=pa.chunked_array([[f"picture-{row}" for row in range(items)]], pa.string()),
        true_label=np.array(
            [UNLABELLED if row % 3 == 0 else row % len(labels) for row in range(items)], dtype=np.int32
        ),
        contents=np.arange(items, dtype=np.int64),
        perceptual=np.arange(items, dtype=np.uint64),
        cosine=cosine,
        logit=cosine[:, -1] * 10,
        vectors=chance.normal(size=(items, WIDTH)).astype(np.float32),
        sampled=sampled,
        layer_vectors=chance.normal(size=(len(sampled), len(LAYERS), WIDTH)).astype(np.float32),
        failed=[FailedItem(items, "broken", 1, "image-truncated", "It ends early.")],
    )


def test_every_item_has_a_row_also_those_that_failed(tmp_path: Path) -> None:
    facts = make_facts(6)
    write_items(tmp_path / "items.parquet", facts, item_columns(facts, study(facts)))
    rows = pd.read_parquet(tmp_path / "items.parquet")
    assert rows["index"].tolist() == list(range(7))
    assert rows["state"].tolist() == ["succeeded"] * 6 + ["failed"]
    assert rows["error_code"].tolist()[-1] == "image-truncated"
    assert rows["custom_id"].tolist()[-2:] == ["picture-5", "broken"]
    assert rows["true_label"].tolist()[-1] == "square"
    assert rows["true_label"].isna().tolist() == [True, False, False, True, False, False, False]
    tops = facts.cosine.argmax(axis=2)
    assert rows["top_final"].tolist()[:6] == [LABELS[label] for label in tops[:, -1]]
    assert rows["flips"].tolist()[:6] == [int((np.diff(top) != 0).sum()) for top in tops]
    right = tops[:, -1] == facts.true_label
    assert rows["settle_correct_layer"].isna().tolist()[:6] == (~right).tolist()


def test_items_that_were_never_computed_have_rows_too(tmp_path: Path) -> None:
    gone = dropped([1, 3, 8, 9], [1, UNLABELLED, 0, 0])
    failed = [FailedItem(2, None, UNLABELLED, "image-truncated", "")]
    facts = replace(make_facts(4), index=np.array([0, 4, 5, 6]), failed=failed, dropped=gone)
    write_items(tmp_path / "items.parquet", facts, item_columns(facts, study(facts)))
    rows = pd.read_parquet(tmp_path / "items.parquet")
    assert rows["index"].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    left = rows[rows["state"] == "dropped"]
    assert left["custom_id"].tolist() == [f"dropped-{each}" for each in (1, 3, 8, 9)]
    assert left["true_label"].fillna("").tolist() == ["square", "", "ring", "ring"]
    assert left["top_final"].isna().all()


def test_failed_items_lie_at_their_places(tmp_path: Path) -> None:
    facts = make_facts(4)
    failed = [FailedItem(index, None, UNLABELLED, "image-truncated", "") for index in (6, 0, 3, 7)]
    facts = replace(facts, index=np.array([1, 2, 4, 5]), failed=failed)
    write_items(tmp_path / "items.parquet", facts, item_columns(facts, study(facts)))
    rows = pd.read_parquet(tmp_path / "items.parquet")
    assert rows["index"].tolist() == list(range(8))
    assert rows["index"][rows["state"] == "failed"].tolist() == [0, 3, 6, 7]


def test_layers_tell_tops_margins_and_ranks_by_layer(tmp_path: Path) -> None:
    facts = make_facts(6)
    write_layers(tmp_path / "layers.parquet", facts)
    rows = duckdb.read_parquet(str(tmp_path / "layers.parquet")).order("index, layer").fetchall()
    assert len(rows) == 6 * len(LAYERS)
    for index, layer, top, top_margin, true_margin, true_rank, scores in rows:
        found = facts.cosine[index, layer].astype(np.float64)
        np.testing.assert_allclose(scores, found, rtol=1e-6)
        order = np.argsort(-found, kind="stable")
        assert top == LABELS[order[0]]
        assert top_margin == pytest.approx(found[order[0]] - found[order[1]], rel=1e-5)
        true = facts.true_label[index]
        if true == UNLABELLED:
            assert (true_margin, true_rank) == (None, None)
        else:
            assert true_rank == list(order).index(true) + 1
            assert true_margin == pytest.approx(found[true] - np.delete(found, true).max(), rel=1e-4)


def test_of_a_single_label_there_are_no_margins(tmp_path: Path) -> None:
    facts = make_facts(4, labels=("ring",))
    write_layers(tmp_path / "layers.parquet", facts)
    rows = pd.read_parquet(tmp_path / "layers.parquet")
    assert rows["top_margin"].isna().all()
    assert rows["true_margin"].isna().all()
    assert set(rows["true_rank"].dropna()) == {1}


def test_embeddings_are_final_of_all_and_of_other_layers_of_the_sample(tmp_path: Path) -> None:
    facts = make_facts(5)
    write_embeddings(tmp_path / "embeddings.parquet", facts)
    rows = pq.read_table(tmp_path / "embeddings.parquet").to_pylist()
    final = {row["index"]: row["vec"] for row in rows if row["layer"] == LAYERS[-1]}
    assert list(final) == list(range(5))
    np.testing.assert_allclose(list(final.values()), facts.vectors)
    for place, layer in enumerate(LAYERS[:-1]):
        held = {row["index"]: row["vec"] for row in rows if row["layer"] == layer}
        assert list(held) == facts.sampled.tolist()
        np.testing.assert_allclose(list(held.values()), facts.layer_vectors[:, place])


def test_files_say_what_they_are_of_in_row_groups_that_can_be_held(tmp_path: Path) -> None:
    facts = make_facts(ROW_GROUP // len(LAYERS) * 2 + 1)
    write_layers(tmp_path / "layers.parquet", facts)
    opened = pq.ParquetFile(tmp_path / "layers.parquet")
    assert opened.num_row_groups == 3
    assert all(opened.metadata.row_group(group).num_rows <= ROW_GROUP for group in range(3))
    told = orjson.loads(opened.schema_arrow.metadata[METADATA])
    assert (told["labels"], told["layers"], told["job_id"]) == (list(LABELS), list(LAYERS), "job_1")


def test_errors_are_lines_of_json(tmp_path: Path) -> None:
    write_errors(tmp_path / "errors.jsonl", make_facts(3))
    (line,) = (tmp_path / "errors.jsonl").read_bytes().splitlines()
    assert orjson.loads(line) == {
        "index": 3,
        "custom_id": "broken",
        "error": {"code": "image-truncated", "message": "It ends early."},
    }
