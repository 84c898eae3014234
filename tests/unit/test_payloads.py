"""What is stored of a lens, whatever layers were asked for."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from engine.lens import LabelDirections, Lens, Scores, Uncalibrated, keep_labels, summarize
from engine.plan import LensPlan
from engine.tokens import TokenMaps
from worker.decoding import DecodedItem
from worker.payloads import lens_payloads

NUMPY = orjson.OPT_SERIALIZE_NUMPY
ITEM = {"index": 0, "kind": "image"}


def lens_of(final: list[float], **shown: list[float]) -> Lens:
    """A lens of one picture at layer 0 only, with these cosines there and at the last layer."""
    last = np.array([final], dtype=np.float32)
    first = np.array([[shown.get("first", final)]], dtype=np.float32)
    names = tuple(f"label {number}" for number in range(len(final)))
    directions = LabelDirections(
        names, names, np.eye(len(final), dtype=np.float32), np.zeros(len(final), bool), ""
    )
    plan = LensPlan(layers=(0,), patch_layers=None, depth=3, grid=(1, 1), patch_method="head")
    scores = Scores(first, last, np.zeros((1, 2), np.float32), keep_labels(last), TokenMaps(), None, 0.0)
    return summarize(directions, plan, scores, scale=100.0, bias=-10.0)


def payload_of(lens: Lens) -> Any:
    found = DecodedItem(ITEM, np.zeros((3, 1, 1), np.uint8), 1, 1)
    (result,) = lens_payloads([found], lens, {})
    return result


def test_the_top_label_is_that_of_the_last_layer_also_when_it_was_not_asked_for() -> None:
    payload = payload_of(lens_of([0.1, 0.3, 0.2], first=[0.9, 0.1, 0.1])).payload
    assert payload["top"]["label"] == "label 1"
    assert payload["top"]["label_by_layer"] == ["label 0"]


def test_the_top_label_is_the_first_of_those_kept_however_close_it_is() -> None:
    close = np.float32(0.1) + np.arange(200, dtype=np.float32) * np.float32(1e-9)
    close[150] = np.nextafter(close.max(), np.float32(1))
    payload = payload_of(lens_of(close.tolist())).payload
    assert payload["top"]["label"] == payload["pooled"]["labels"][0] == "label 150"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_number_that_is_none_at_the_last_layer_fails_the_item(broken: float) -> None:
    result = payload_of(lens_of([0.1, broken], first=[0.1, 0.2]))
    assert result.error["code"] == "result-not-finite"


def test_logits_are_null_of_labels_that_they_say_nothing_of() -> None:
    lens = lens_of([0.1, 0.3, 0.2, 0.0])
    cosine = np.repeat(lens.cosine, 2, axis=1)
    forms: Any = (
        "a ring",
        {"positive": ("a ring",), "negative": ("a heart",)},
        ("a ring", "two rings"),
        None,
    )
    lower = Uncalibrated(100 * cosine, cosine, cosine)
    shown = replace(lens, prompts=forms, uncalibrated=lower, final_softmax=lens.final_logit)
    payload = payload_of(shown).payload["pooled"]
    below = [{name: row} for name, rows in payload["uncalibrated"].items() for row in rows]
    assert (len(payload["final"]), len(below)) == (3, 6)
    for numbers in (payload["final"], *below):
        for values in numbers.values():
            assert [value is None for value in values] == [False, True, False, True]
    assert payload["final"]["logit"][0] == lens.final_logit[0, 0]
    # in the digits of float32
    (written, *_) = orjson.dumps(payload["final"]["match_probability"], option=NUMPY).split(b",")
    assert len(written) < 16
    assert len(payload["cosine"][0]) == len(forms)
