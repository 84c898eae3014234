"""Where labels are read: means over images, beside means taken image by image."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis.set_report.late_maps import read_late_maps
from analysis.set_report.plates import read_plates
from analysis.sets.facts import UNLABELLED, SampledMaps, SetFacts
from analysis.sets.findings import LABEL_MAPS, write_findings
from tests.reports import jpeg
from tests.unit.sets.made import make_facts, repeat

GRID = (3, 4)


def with_maps(facts: SetFacts) -> SetFacts:
    """Maps of every second row, in disorder and one of them twice; all glow in the middle."""
    chance = np.random.default_rng(4)
    rows = chance.permutation(np.arange(0, len(facts.index), 2))
    rows = np.append(rows, rows[0])
    values = chance.normal(0, 0.02, (len(rows), len(facts.labels), *GRID))
    values[:, :, 1, 2] += 0.5
    # each label in a place of its own
    for place, label in enumerate(facts.true_label[rows]):
        if label != UNLABELLED:
            values[place, label, label % 3, label % 4] += 0.1
    values[-1] = values[0]
    return dataclasses.replace(facts, maps=SampledMaps(rows, values.astype(np.float16), 6, "value"))


def test_a_label_is_told_by_its_mean_map_less_that_of_other_classes(tmp_path: Path) -> None:
    facts = with_maps(repeat(make_facts(200), exact=[(2, 8)]))
    summary = write_findings(facts, tmp_path)
    told = summary.label_maps
    assert told is not None
    assert facts.maps is not None
    by_row = dict(zip(facts.maps.rows.tolist(), facts.maps.values.astype(np.float64), strict=True))
    # row 8 has the bytes of row 2, and an image counts once
    by_row.pop(8)
    rows = {row["label"]: row for row in pq.read_table(tmp_path / LABEL_MAPS).to_pylist()}
    known = {row: facts.true_label[row] for row in by_row if facts.true_label[row] != UNLABELLED}
    assert told.n == len(known)
    assert [(each.n, each.label) for each in told.labels] == sorted(
        ((each.n, each.label) for each in told.labels), key=lambda each: (-each[0], each[1])
    )
    for each in told.labels:
        label = facts.labels.index(each.label)
        own = [by_row[row][label] for row, true in known.items() if true == label]
        others = [by_row[row][label] for row, true in known.items() if true != label]
        wanted = np.mean(own, axis=0) - np.mean(others, axis=0)
        assert (each.n, each.n_other) == (len(own), len(others))
        assert (each.row, each.col) == (label % 3, label % 4)
        assert each.highest == pytest.approx(wanted.max())
        row = rows[each.label]
        assert (row["grid_h"], row["grid_w"], row["n"]) == (*GRID, len(own))
        np.testing.assert_allclose(np.reshape(row["map"], GRID), wanted, atol=1e-6)
        np.testing.assert_allclose(np.subtract(row["mean"], row["mean_other"]), row["map"], atol=1e-6)
    assert len(told.labels) == 5
    plates = read_plates(tmp_path / LABEL_MAPS, summary)
    assert [plate.label for plate in plates] == [each.label for each in told.labels]
    np.testing.assert_allclose(plates[0].difference.max(), told.labels[0].highest, rtol=1e-5)


def test_late_items_show_where_their_labels_are_read_beyond_the_mean(tmp_path: Path) -> None:
    facts = with_maps(make_facts(200, unlabelled=0))
    maps = facts.maps
    assert maps is not None
    late = write_findings(facts, tmp_path).settle.late
    found = read_late_maps(facts, late, lambda _: jpeg((40, 30)))
    assert found is not None
    assert set(found.of) == {item.index for item in late} & set(facts.index[maps.rows].tolist())
    right = next(item for item in late if item.top == item.true_label and item.index in found.of)
    before, final = found.of[right.index]
    assert (before.label, final.label, final.layer) == (right.before, right.top, 6)
    painted = np.asarray(Image.open(io.BytesIO(final.png)).convert("L"))
    assert painted.shape == (72, 96)
    # all glow in the middle; what is taken off leaves the place of the label
    label = facts.labels.index(right.top)
    row, col = divmod(int(painted.argmax()), painted.shape[1])
    assert (row // 24, col // 24) == (label % 3, label % 4)
    assert read_late_maps(facts, late, lambda _: b"torn") is None


def test_a_job_without_maps_is_summarised_with_a_note(tmp_path: Path) -> None:
    told = write_findings(make_facts(40), tmp_path)
    assert told.label_maps is None
    assert "label-maps-none" in {each.code for each in told.warnings}
    assert not (tmp_path / LABEL_MAPS).exists()
    # summaries that were written before they were there can be read
    before = orjson.loads(told.model_dump_json())
    del before["label_maps"]
    assert type(told).model_validate(before) == told


def test_labels_of_few_images_are_not_told(tmp_path: Path) -> None:
    told = write_findings(with_maps(make_facts(12, labels=4)), tmp_path)
    assert told.label_maps is not None
    assert told.label_maps.labels == []
    assert read_plates(tmp_path / LABEL_MAPS, told) == []
    assert "label-maps-few" in {each.code for each in told.warnings}
