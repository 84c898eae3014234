"""Jobs by the client at the real service: submitted, awaited, found, refused; by both clients."""

import inspect
import io
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensqueue_client import (
    AsyncClient,
    AuthenticationError,
    Client,
    ConfigurationError,
    GoneError,
    InvalidRequestError,
    Job,
    JobFailedError,
    NotFoundError,
    Picture,
    WaitTimeoutError,
)
from tests.acceptance.clients import LABELS, PATHS
from tests.acceptance.conftest import RunningService


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    assert public(Client) == public(AsyncClient)
    assert len(public(Client)) > 25


def test_a_lens_comes_back_as_arrays_whatever_the_pictures_are(client: Client) -> None:
    with PATHS[0].open("rb") as file, Image.open(PATHS[0]) as image:
        pictures: list[Picture] = [
            PATHS[0],
            str(PATHS[0]),
            ("named", PATHS[0].read_bytes()),
            file,
            image,
            PATHS[1].read_bytes(),
        ]
        job = client.submit_lens(pictures, LABELS, outputs=["pooled", "patch"], patch_layers="all")
    assert not job.raw.get("tags")
    job = client.wait(job, timeout=60).raise_for_failure()
    assert job.complete
    assert job.provenance is not None
    items = list(client.results(job, page_size=2))
    names = ["scene-00000.jpg", "scene-00000.jpg", "named", "scene-00000.jpg", "scene-00000.jpg", "5"]
    assert [item.name for item in items] == names
    first, other = items[0], items[5]
    assert first.cosine is not None
    assert first.cosine.shape == (len(first.layers), 3)
    assert first.top is not None
    assert (first.top.label, first.labels) == ("cyan ring", tuple(LABELS))
    for item in items[1:5]:
        assert item.cosine is not None
        np.testing.assert_allclose(item.cosine, first.cosine, atol=1e-6)
    assert other.top is not None
    assert other.top.label == "red diamond"
    assert client.item(job, 5).raw == other.raw
    scores = client.scores(first)
    assert scores.shape == (7, 3, 10, 10)
    for drawn, kind in [
        (client.overlay(first, layer=5, label="red diamond"), "PNG"),
        (client.heatmap(first), "PNG"),
        (client.thumbnail(first), "JPEG"),
    ]:
        assert Image.open(io.BytesIO(drawn)).format == kind


def test_embeddings_of_texts_and_pictures_have_the_same_width(client: Client) -> None:
    texts = client.wait(client.submit_embedding(texts=["a cyan ring", "a red heart"]))
    pictures = client.wait(client.submit_embedding(PATHS, normalize=False))
    of_texts, of_pictures = client.to_numpy(texts).embedding, client.to_numpy(pictures).embedding
    assert of_texts is not None
    assert of_pictures is not None
    assert of_texts.shape[1] == of_pictures.shape[1]
    np.testing.assert_allclose(np.linalg.norm(of_texts, axis=1), 1, atol=1e-5)
    assert (np.linalg.norm(of_pictures, axis=1) > 1.5).all()


def test_pictures_are_sent_once_and_named_in_jobs(client: Client) -> None:
    ids = client.upload(PATHS[:2])
    assert client.upload(PATHS[0]) == ids[:1]
    job = client.wait(client.submit_lens([ids[0], ("b", ids[1])], LABELS))
    assert [(item.image_id, item.custom_id) for item in client.results(job)] == [
        (ids[0], None),
        (ids[1], "b"),
    ]
    with pytest.raises(ValueError, match="not both"):
        client.submit_lens([ids[0], PATHS[1]], LABELS)
    with pytest.raises(InvalidRequestError):
        client.upload([PATHS[0], b"no picture"])


def test_a_thousand_files_need_one_descriptor(client: Client, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(400)]
    for path in paths:
        path.symlink_to(PATHS[0])
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    most = 0

    def look(_: Job) -> None:
        nonlocal most
        most = max(most, len(list(descriptors.iterdir())))

    job = client.submit_embedding(paths)
    ended = client.wait(job, on_progress=look)
    assert ended.progress.succeeded == 400
    assert most < before + 50


def test_whoever_waits_hears_how_far_it_is(client: Client) -> None:
    heard: list[Job] = []
    job = client.submit_lens(PATHS * 40, LABELS)
    ended = client.wait(job, on_progress=heard.append)
    assert (heard[0], heard[-1]) == (job, ended)
    fractions = [each.progress.fraction for each in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert client.wait(ended.id) == ended
    assert client.job(job) == ended


def test_waiting_ends_when_its_time_is_over_and_the_job_goes_on(
    client: Client, service: RunningService
) -> None:
    job = client.submit_embedding(texts=["a ring"], model="google/siglip-base-patch16-224")
    with pytest.raises(WaitTimeoutError) as caught:
        client.wait(job, timeout=0.5)
    assert caught.value.job.id == job.id
    assert caught.value.job.waiting_for is not None
    cancelled = client.cancel(job)
    assert (cancelled.done, cancelled.fruitless) == (True, True)
    assert client.cancel(job) == cancelled


def test_each_refusal_has_a_class_and_says_what_the_service_says(
    client: Client, service: RunningService
) -> None:
    with pytest.raises(NotFoundError) as unknown:
        client.job(f"job_{uuid.uuid4().hex}")
    assert (unknown.value.code, unknown.value.status) == ("not-found", 404)
    assert unknown.value.request_id is not None
    with pytest.raises(InvalidRequestError) as invalid:
        client.submit({"type": "logit_lens", "labels": [3]})
    assert invalid.value.errors[0]["pointer"] == "/labels/0"
    failed = client.wait(client.submit_lens(b"no picture", LABELS))
    with pytest.raises(JobFailedError) as fruitless:
        failed.raise_for_failure()
    assert fruitless.value.code == "not-an-image"
    stranger = type(client)(f"http://127.0.0.1:{service.port}", "lq_nobody")
    with pytest.raises(AuthenticationError):
        stranger.models()
    stranger.close()


def test_a_missing_file_is_told_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.submit_lens([PATHS[0], tmp_path / "nowhere.jpg"], LABELS)


def test_models_and_workers_are_told(client: Client) -> None:
    (model,) = [each for each in client.models() if each.default]
    assert model.dimensions is not None
    assert (model.workers_online, model.dimensions.grid) == (1, (10, 10))
    assert client.model(model.name).dimensions == model.dimensions
    assert model.name in {worker.model for worker in client.workers()}


def test_jobs_are_found_by_their_tags_and_deleted(client: Client) -> None:
    mark = uuid.uuid4().hex
    sent = [client.submit_embedding(texts=["a ring"], tags={"mark": mark, "n": str(n)}).id for n in range(5)]
    found = list(client.jobs(tag=f"mark:{mark}", page_size=2))
    assert [job.id for job in found] == sent[::-1]
    assert found[0].tags == {"mark": mark, "n": "4"}
    for job_id in sent:
        client.wait(job_id)
        client.delete(job_id)
    assert list(client.jobs(tag=f"mark:{mark}")) == []
    with pytest.raises(GoneError):
        client.job(sent[0])


def test_without_a_key_it_says_where_one_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: RunningService
) -> None:
    monkeypatch.delenv("LENSQUEUE_API_KEY", raising=False)
    monkeypatch.setenv("LENSQUEUE_URL", f"http://127.0.0.1:{service.port}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="LENSQUEUE_API_KEY"):
        Client()
    (tmp_path / ".lensqueue").mkdir()
    (tmp_path / ".lensqueue" / "api-key").write_text(service.key + "\n")
    with Client() as client:
        assert client.models()
    for url in ("localhost:8000", "ftp://localhost", "http://"):
        with pytest.raises(ConfigurationError, match="no http address"):
            Client(url)
