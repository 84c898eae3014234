"""The files of a set belong together: the summary names them, and says what their rows say."""

import hashlib
from pathlib import Path

import numpy as np
import orjson
import pandas as pd

from analysis.sets.findings import EMBEDDINGS, ERRORS, ITEMS, LAYERS, SUMMARY, write_findings
from analysis.sets.schema import Summary
from tests.unit.test_set_exports import LAYERS as NUMBERS
from tests.unit.test_set_exports import make_facts


def test_the_accuracy_of_the_summary_is_that_of_the_exported_rows(tmp_path: Path) -> None:
    summary = write_findings(make_facts(60), tmp_path)
    items = pd.read_parquet(tmp_path / ITEMS).set_index("index")["true_label"].dropna()
    layers = pd.read_parquet(tmp_path / LAYERS)
    for told, layer in zip(summary.layers, NUMBERS, strict=True):
        tops = layers[layers["layer"] == layer].set_index("index")["top"]
        known = items.index.intersection(tops.index)
        assert told.n == len(known)
        assert told.top1 is not None
        np.testing.assert_allclose(told.top1, (tops[known] == items[known]).mean(), rtol=0, atol=1e-12)


def test_the_summary_names_the_files_beside_it(tmp_path: Path) -> None:
    summary = write_findings(make_facts(20), tmp_path)
    assert {export.name for export in summary.exports} == {ITEMS, LAYERS, EMBEDDINGS, ERRORS}
    for export in summary.exports:
        written = (tmp_path / export.name).read_bytes()
        assert (export.size_bytes, export.sha256) == (len(written), hashlib.sha256(written).hexdigest())
    assert {export.name: export.rows for export in summary.exports} == {
        ITEMS: 21,
        LAYERS: 20 * len(NUMBERS),
        EMBEDDINGS: 20 + 10 * (len(NUMBERS) - 1),
        ERRORS: 1,
    }
    read = Summary.model_validate(orjson.loads((tmp_path / SUMMARY).read_bytes()))
    assert read == summary
