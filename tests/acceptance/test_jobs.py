"""Jobs from submit to result, through the real service, against the engine itself."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.siglip import SiglipEngine
from tests.acceptance.conftest import RunningService
from tests.conftest import SAMPLES
from tests.ledger import MODEL, assert_settled

LABELS = ["cyan ring", "red diamond", "orange square", "black arrow"]
NAMES = [f"scene-{number:05}" for number in range(10)]


@pytest.fixture(scope="module")
def engine() -> SiglipEngine:
    return SiglipEngine(MODEL, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[tuple[str, bytes]]:
    return [(name, (SAMPLES / f"{name}.jpg").read_bytes()) for name in NAMES]


def opened(pictures: list[tuple[str, bytes]]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(data)) for _, data in pictures]


def lens(**changes: Any) -> dict[str, Any]:
    return {"type": "logit_lens", "labels": LABELS} | changes


def test_a_lens_is_what_the_engine_says(
    service: RunningService, engine: SiglipEngine, pictures: list[tuple[str, bytes]]
) -> None:
    job = service.finish(service.submit(lens(), pictures))
    assert (job["state"], job["progress"]["fraction"]) == ("succeeded", 1.0)
    assert (job["provenance"]["model"], job["provenance"]["dtype"]) == (MODEL, "float32")
    assert job["provenance"]["prompts"][0] == "This is a photo of cyan ring."
    expected = engine.lens(opened(pictures), LABELS)
    items = service.items(job)
    assert [(item["index"], item["custom_id"]) for item in items] == list(enumerate(NAMES))
    for row, item in enumerate(items):
        assert item["pooled"]["labels"] == LABELS
        assert item["pooled"]["layers"] == list(range(engine.config.layers + 1))
        np.testing.assert_allclose(item["pooled"]["cosine"], expected.cosine[row], atol=1e-5)
        np.testing.assert_allclose(item["pooled"]["final"]["logit"], expected.final_logit[row], atol=1e-3)
        assert item["top"]["label"] == LABELS[expected.top[row][-1]]
        assert expected.settle_layer is not None
        assert item["top"]["settle_layer"] == expected.settle_layer[row]
    assert [item["top"]["label"] for item in items[:3]] == LABELS[:3]


@pytest.mark.parametrize("normalize", [True, False])
def test_image_embeddings_are_what_the_engine_says(
    service: RunningService, engine: SiglipEngine, pictures: list[tuple[str, bytes]], normalize: bool
) -> None:
    job = service.finish(
        service.submit({"type": "embedding", "options": {"normalize": normalize}}, pictures[:3])
    )
    found = np.array([item["embedding"] for item in service.items(job)])
    expected = engine.embed_images(opened(pictures[:3])).numpy()
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_text_embeddings_are_what_the_engine_says(service: RunningService, engine: SiglipEngine) -> None:
    texts = ["a photo of a cyan ring", "Red, diamond!", ""]
    job = service.finish(service.submit({"type": "embedding", "input": {"texts": texts}}))
    items = service.items(job)
    assert [item["kind"] for item in items] == ["text"] * 3
    assert {item["dimensions"] for item in items} == {engine.config.hidden_size}
    expected = engine.embed_text(texts).numpy()
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose([item["embedding"] for item in items], expected, atol=1e-5)


def test_bad_pictures_fail_alone_and_say_why(
    service: RunningService, pictures: list[tuple[str, bytes]]
) -> None:
    good = pictures[0][1]
    sent = [
        ("good", good),
        ("torn.jpg", good[: len(good) // 2]),
        ("empty.jpg", b""),
        ("text.jpg", b"these are words, not pixels"),
        ("bomb.png", _bomb()),
        ("also good", good),
    ]
    job = service.finish(service.submit(lens(), sent))
    assert job["state"] == "partial"
    assert (job["progress"]["succeeded"], job["progress"]["failed"]) == (2, 4)
    outcome = {item["custom_id"]: item.get("error", {}).get("code") for item in service.items(job)}
    assert outcome == {
        "good": None,
        "torn.jpg": "image-truncated",
        "empty.jpg": "image-empty",
        "text.jpg": "not-an-image",
        "bomb.png": "image-too-large",
        "also good": None,
    }
    assert_settled(service.sessions)


def test_a_job_of_bad_pictures_only_is_failed_and_says_why(service: RunningService) -> None:
    job = service.finish(service.submit(lens(), [("empty.jpg", b"")]))
    assert (job["state"], job["error"]["code"]) == ("failed", "image-empty")


def test_labels_that_the_tokenizer_cannot_tell_apart_fail_the_job(
    service: RunningService, pictures: list[tuple[str, bytes]]
) -> None:
    job = service.finish(service.submit(lens(labels=["red ring", "Red ring!"]), pictures[:1]))
    assert (job["state"], job["error"]["code"]) == ("failed", "labels-indistinct")


def test_labels_of_every_form_are_scored_as_the_engine_does(
    service: RunningService, engine: SiglipEngine, pictures: list[tuple[str, bytes]]
) -> None:
    vector = [float(number % 7 - 3) for number in range(engine.config.hidden_size)]
    labels: list[Any] = [
        "cyan ring",
        {"name": "diamond", "prompts": ["a red diamond", "a blue diamond"]},
        {"name": "red, not cyan", "positive": ["a red ring", "a red heart"], "negative": "a cyan ring"},
        {"name": "given", "vector": vector},
    ]
    job = service.finish(service.submit(lens(labels=labels), pictures[:3]))
    assert job["state"] == "succeeded"
    assert job["provenance"]["prompts"][1:] == [
        ["a red diamond", "a blue diamond"],
        {"positive": ["a red ring", "a red heart"], "negative": ["a cyan ring"]},
        None,
    ]
    expected = engine.lens(opened(pictures[:3]), labels)
    for row, item in enumerate(service.items(job)):
        assert item["pooled"]["labels"] == ["cyan ring", "diamond", "red, not cyan", "given"]
        np.testing.assert_allclose(item["pooled"]["cosine"], expected.cosine[row], atol=1e-5)


def test_of_many_labels_the_best_are_returned(
    service: RunningService, pictures: list[tuple[str, bytes]]
) -> None:
    labels = ["cyan ring", *(f"number {number}" for number in range(200))]
    job = service.finish(service.submit(lens(labels=labels), pictures[:1]))
    (item,) = service.items(job)
    assert len(item["pooled"]["labels"]) == 5
    assert item["pooled"]["labels"][0] == item["top"]["label"] == "cyan ring"
    final = item["pooled"]["cosine"][-1]
    assert final == sorted(final, reverse=True)


def test_the_worker_says_what_it_has_loaded(service: RunningService) -> None:
    (worker,) = [
        worker for worker in service.client.get("/v1/workers").json()["items"] if worker["state"] == "online"
    ]
    assert (worker["model"], worker["device"], worker["dtype"]) == (MODEL, "cpu", "float32")
    assert worker["revision"].startswith("local:")


def _bomb() -> bytes:
    """A small file that would be 100 million pixels."""
    data = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(data, "PNG")
    return data.getvalue()
