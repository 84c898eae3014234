"""The parts of the report of a set: what it picks, how it writes numbers, what its dense plots hold."""

import base64
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from analysis.set_report.examples import rank, read_examples
from analysis.set_report.facts import LabelPlate, Points
from analysis.set_report.figures import count, decimal, p_value, per_cent, points, size, whole
from analysis.set_report.masks import class_places, confusion_masks, point_masks
from analysis.set_report.picks import classes_shown, example_items, failed_shown, pick, wanted_items
from analysis.set_report.plates import draw_plates
from analysis.sets.facts import UNLABELLED, FailedItem, Origin, SetFacts
from analysis.wording import EN_DASH, MINUS
from tests.set_reports import make_summary


def test_examples_hold_the_places_of_their_labels() -> None:
    cosine = np.array([[[0.1, 0.3, 0.3, 0.0], [0.9, 0.1, 0.2, 0.3]]], np.float32)
    assert rank(cosine[0]).tolist() == [[3, 1, 2, 4], [1, 4, 3, 2]]
    (example,) = read_examples(_facts(cosine), [7, 99])
    assert (example.index, example.true_label) == (7, "d")
    assert dict(example.ranks) == {"a": [3, 1], "d": [4, 2], "b": [1, 4], "c": [2, 3]}
    assert read_examples(_facts(cosine * np.nan), [7]) == []


def test_examples_tell_of_different_labels_and_are_among_the_wanted() -> None:
    summary = make_summary()
    chosen = example_items(summary)
    assert len(chosen) == len(set(chosen)) == 12
    late = {item.index: item.top for item in summary.settle.late}
    tops = [late[index] for index in chosen if index in late]
    assert len(set(tops)) >= 4
    assert set(chosen) <= set(wanted_items(summary))
    assert {item.index for _, item in pick(summary).named()} <= set(wanted_items(summary))


def test_of_many_classes_the_worst_and_the_best_are_shown() -> None:
    classes = make_summary([str(label) for label in range(200)], images=9000).classes
    shown = classes_shown(classes)
    ranked = [each for each in classes if each.ranked]
    assert len(ranked) > 80
    assert shown == [*ranked[:40], *ranked[-20:], *[each for each in classes if not each.ranked][:20]]


def test_failed_items_keep_their_order_within_their_error() -> None:
    failed = [FailedItem(index, None, UNLABELLED, code, "") for index, code in ((5, "b"), (3, "a"), (1, "b"))]
    assert [item.index for item in failed_shown(failed, ["b", "a"])] == [1, 5, 3]


def test_a_large_confusion_keeps_every_cell_that_is_not_empty() -> None:
    matrix = np.zeros((1200, 1200), int)
    matrix[3, 3], matrix[1199, 0] = 9, 1
    diagonal, others = (_alpha(mask.url) for mask in confusion_masks(matrix.tolist()))
    assert diagonal.shape == others.shape == (400, 400)
    assert (diagonal > 0).sum() == 1
    assert (others > 0).sum() == 1
    assert diagonal[1, 1] == others[399, 0] == 255


def test_points_are_drawn_by_whether_their_label_is_true() -> None:
    at = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    dots = Points(at, np.array([0, 1, UNLABELLED], np.int32), np.array([0, 0, 0], np.int32), "By hand.")
    masks = {mask.ink: _alpha(mask.url) for mask in point_masks(dots)}
    assert set(masks) == {"true", "false", "unknown"}
    # up is up: the last point is the upper right one
    corner = {name: np.argwhere(mask > 0).mean(axis=0).round(-2).tolist() for name, mask in masks.items()}
    assert corner == {"true": [700, 0], "false": [700, 700], "unknown": [0, 700]}
    places = class_places(dots, ["a", "b"])
    assert [(place.label, place.images, place.right) for place in places] == [("a", 1, 1), ("b", 1, 0)]


def test_maps_of_labels_have_one_scale_and_an_ink_for_each_side_of_zero() -> None:
    plates = [
        LabelPlate("cat", np.array([[1.0, -0.5]], np.float32)),
        LabelPlate("dog", np.array([[0.5, 0]], np.float32)),
    ]
    drawn = [[_alpha(mask.url).tolist() for mask in plate.masks] for plate in draw_plates(plates)]
    assert drawn == [[[[255, 0]], [[0, 128]]], [[[128, 0]], [[0, 0]]]]


def test_points_that_all_lie_in_one_place_are_drawn_in_the_middle() -> None:
    dots = Points(np.ones((4, 2)), np.zeros(4, np.int32), np.zeros(4, np.int32), "By hand.")
    (mask,) = point_masks(dots)
    assert np.argwhere(_alpha(mask.url) > 0).mean(axis=0) == pytest.approx([359.5, 359.5], abs=2)


def test_numbers_are_not_rounded_to_what_they_are_not() -> None:
    assert [per_cent(share) for share in (0.9523, 0.0001, 0.9999, 1, 0, None)] == [
        "95.2\u202f%",
        "<0.1\u202f%",
        ">99.9\u202f%",
        "100.0\u202f%",
        "0.0\u202f%",
        EN_DASH,
    ]
    assert [whole(share) for share in (0.001, 0.5, 0.999)] == ["<1", "50", ">99"]
    assert [points(share) for share in (0.02, -0.0004, -0.02)] == ["+2.0", "0.0", f"{MINUS}2.0"]
    assert [p_value(p) for p in (0.0004, 0.04, 1, None)] == ["<0.001", "0.040", "1.000", EN_DASH]
    assert [decimal(value) for value in (-0.001, -1.5, None)] == ["0.00", f"{MINUS}1.50", EN_DASH]
    assert [size(number) for number in (12, 1234, 5_600_000)] == ["12\u202fB", "1.2\u202fkB", "5.6\u202fMB"]
    assert count(1234567) == "1,234,567"


def _alpha(url: str) -> Any:
    image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert image.mode == "LA"
    return np.asarray(image.getchannel("A"))


def _facts(cosine: Any) -> SetFacts:
    rows = len(cosine)
    return SetFacts(
        Origin("job_x", "ver_x", "0", {}),
        (0, 1),
        ("a", "b", "c", "d"),
        np.array([7]),
        pa.chunked_array([["seven"]], pa.string()),
        np.array([3], np.int32),
        np.arange(rows),
        np.zeros(rows, np.uint64),
        cosine,
        cosine[:, -1],
        np.ones((rows, 1), np.float32),
        np.arange(rows),
        np.ones((rows, 2, 1), np.float32),
        [],
    )
