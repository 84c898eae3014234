"""The client at the real service: the same tests for the one that waits and the one for asyncio."""

import asyncio
import inspect
import io
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
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
    JobArrays,
    JobFailedError,
    NotFoundError,
    Picture,
    Retries,
    UnavailableError,
    UnreachableError,
    WaitTimeoutError,
)
from tests.acceptance.conftest import RunningService, free_port
from tests.conftest import SAMPLES
from tests.ledger import scalar

LABELS = ["cyan ring", "red diamond", "orange square"]
PATHS = [SAMPLES / f"scene-{number:05}.jpg" for number in range(3)]
QUICK = Retries(first_s=0.01)


class Blocking:
    """An AsyncClient whose methods are called as those of Client are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            if inspect.isasyncgen(found):
                return self._iterate(found)
            return self._loop.run_until_complete(found)

        return call

    def _iterate(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        # one at a time: whoever stops in the middle must find the rest untouched
        while True:
            try:
                yield self._loop.run_until_complete(cast("Coroutine[Any, Any, Any]", anext(found)))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, service: RunningService) -> Iterator[Client]:
    made = request.param(f"http://127.0.0.1:{service.port}", service.key)
    yield made
    made.close()


@pytest.fixture
def sync_client(service: RunningService) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{service.port}", service.key) as made:
        yield made


class Faulty(httpx.HTTPTransport):
    """Sends what it is given, and loses the first answers, or replaces them by others."""

    def __init__(self, *faults: Exception | httpx.Response) -> None:
        super().__init__()
        self.faults = list(faults)
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        answer = super().handle_request(request)
        if not self.faults:
            return answer
        answer.read()
        fault = self.faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault


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


def test_a_job_becomes_arrays_with_a_row_for_every_item(client: Client) -> None:
    job = client.wait(client.submit_lens([*PATHS, b"no picture"], LABELS))
    assert (job.done, job.complete, job.fruitless) == (True, False, False)
    found = client.to_numpy(job)
    assert found.cosine is not None
    assert found.logit is not None
    assert found.cosine.shape == (4, 7, 3)
    assert found.layers == tuple(range(7))
    assert np.isfinite(found.cosine[:3]).all()
    assert np.isnan(found.cosine[3]).all()
    for item in client.results(job):
        if item.error is None:
            np.testing.assert_array_equal(found.cosine[item.index], item.cosine)
            np.testing.assert_array_equal(found.logit[item.index], item.logit)
        else:
            assert (item.index, item.error.code) == (3, "not-an-image")


def test_a_whole_job_has_named_axes_where_xarray_is_installed(client: Client) -> None:
    job = client.wait(client.submit_lens(PATHS, LABELS))
    named = client.job_array(job)
    try:
        import xarray  # noqa: PLC0415 - what is to be found out
    except ImportError:
        assert isinstance(named, JobArrays)
        with pytest.raises(ImportError):
            named.to_xarray()
    else:
        assert isinstance(named, xarray.Dataset)
        assert named.cosine.dims == ("item", "layer", "label")
        assert float(named.cosine.sel(item=0, layer=6, label="cyan ring")) > 0


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


def test_an_address_where_nothing_listens_is_told_after_the_retries(service: RunningService) -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", "lq_x", retries=Retries(times=2, first_s=0.01)) as nowhere,
        pytest.raises(UnreachableError),
    ):
        nowhere.models()
    assert issubclass(UnreachableError, UnavailableError)


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


def test_events_tell_of_every_item_once_and_end_with_the_job(client: Client) -> None:
    job = client.submit_embedding(PATHS * 5)
    events = list(client.events(job))
    assert [event.name for event in events if event.name == "done"] == ["done"]
    assert events[-1].data["id"] == job.id
    assert sorted(event.data["index"] for event in events if event.name == "item") == list(range(15))
    assert list(client.events(job, last_event_id=events[-1].id)) == []


def test_events_go_on_behind_the_last_that_was_seen(service: RunningService) -> None:
    transport = Stops("/events", 700, times=4)
    with Client(f"http://127.0.0.1:{service.port}", service.key, transport=transport) as client:
        job = client.wait(client.submit_embedding(PATHS * 5))
        events = list(client.events(job))
    assert [event.data["index"] for event in events if event.name == "item"] == list(range(15))
    assert events[-1].name == "done"
    assert transport.times == 0
    assert "Last-Event-ID" in transport.asked[-1]


def test_the_script_for_those_who_doubt_computes_the_same_logits(
    service: RunningService, client: Client, tmp_path: Path
) -> None:
    labels: list[str | dict[str, Any]] = [
        "cyan ring",
        {"name": "diamond", "prompts": ["a red diamond", "A blue diamond"]},
        {"name": "rather a ring", "positive": ["a ring"], "negative": ["a square", "an arrow"]},
    ]
    job = client.wait(client.submit_lens(PATHS[0], labels, template="a photo of a {}"))
    (item,) = client.results(job)
    found = client.reproduce(job)
    assert found.body["labels"] == labels
    assert found.script is not None
    assert len(found.script.splitlines()) <= 30
    script = tmp_path / "reproduce.py"
    script.write_text(found.script)
    done = subprocess.run(
        [sys.executable, str(script), str(PATHS[0]), str(SAMPLES.parents[1] / "checkpoint")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert item.cosine is not None
    assert item.logit is not None
    theirs = json.loads(done.stdout)
    for label, cosine, logit in zip(item.labels, item.cosine[-1], item.logit, strict=True):
        assert abs(theirs[label]["cosine"] - cosine) < 1e-5, label
        if label == "rather a ring":
            assert (theirs[label]["logit"], np.isnan(logit)) == (None, True)
        else:
            assert abs(theirs[label]["logit"] - logit) < 1e-4, label
    again = client.wait(client.submit(found.body))
    assert client.to_numpy(again).labels == item.labels


def test_the_example_draws_a_lens(service: RunningService, tmp_path: Path) -> None:
    example = SAMPLES.parents[2] / "client" / "examples" / "plot_layers.py"
    target = tmp_path / "layers.png"
    url = f"http://127.0.0.1:{service.port}"
    done = subprocess.run(
        [sys.executable, str(example), str(PATHS[0]), "cyan ring,red diamond", "-o", str(target)],
        env={**os.environ, "LENSQUEUE_URL": url, "LENSQUEUE_API_KEY": service.key},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cyan ring, from layer" in done.stdout
    with Image.open(target) as drawn:
        assert drawn.size == (70 + 2 * 110, 30 + 7 * 26)


class Stops(httpx.HTTPTransport):
    """Lets a body break off after so many bytes, so many times."""

    def __init__(self, path: str, after_bytes: int, times: int) -> None:
        super().__init__()
        self.path, self.after_bytes, self.times = path, after_bytes, times
        self.asked: list[httpx.Headers] = []
        self.statuses: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.url.path.endswith(self.path):
            self.asked.append(request.headers)
            self.statuses.append(answer.status_code)
            if self.times:
                self.times -= 1
                assert isinstance(answer.stream, httpx.SyncByteStream)
                answer.stream = Broken(answer.stream, self.after_bytes)
        return answer


class Broken(httpx.SyncByteStream):
    def __init__(self, whole: httpx.SyncByteStream, after_bytes: int) -> None:
        self.whole, self.after_bytes = whole, after_bytes

    def __iter__(self) -> Iterator[bytes]:
        left = self.after_bytes
        for chunk in self.whole:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                raise httpx.ReadError("broken")

    def close(self) -> None:
        self.whole.close()


@pytest.mark.parametrize("kind", ["parquet", "npz", "ndjson"])
def test_a_download_that_breaks_off_goes_on_where_it_was(
    service: RunningService, tmp_path: Path, kind: str
) -> None:
    url = f"http://127.0.0.1:{service.port}"
    with Client(url, service.key) as client:
        job = client.wait(client.submit_embedding(PATHS * 10)).raise_for_failure()
        whole = client.download(job, tmp_path / f"whole.{kind}").read_bytes()
    transport = Stops("/results", 1_000, times=3)
    with Client(url, service.key, transport=transport, retries=Retries(times=1)) as client:
        with pytest.raises(UnreachableError):
            client.download(job, tmp_path / f"parts.{kind}")
        # another process, some other time
        found = client.download(job, tmp_path / f"parts.{kind}")
    assert transport.statuses == [200, 206, 206, 206]
    assert transport.asked[-1]["Range"] == "bytes=3000-"
    assert found.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"parts.{kind}", f"whole.{kind}"]


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ReadError("lost"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("gone"),
        httpx.Response(503, headers={"Retry-After": "0"}),
        httpx.Response(429, headers={"Retry-After": "0"}, json={"code": "rate-limited"}),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status_code", "")),
)
@pytest.mark.parametrize("pictures", [[], PATHS[:2]], ids=["json", "multipart"])
def test_what_is_sent_again_makes_no_second_job(
    service: RunningService, fault: Exception | httpx.Response, pictures: list[Path]
) -> None:
    before = scalar(service.sessions, "SELECT count(*) FROM jobs")
    transport = Faulty(fault, fault)
    url = f"http://127.0.0.1:{service.port}"
    with Client(url, service.key, transport=transport, retries=QUICK) as client:
        texts = [] if pictures else ["a ring"]
        job = client.submit_embedding(pictures, texts=texts)
        assert client.wait(job, timeout=60).complete
    assert len({request.headers["Idempotency-Key"] for request in transport.sent[:3]}) == 1
    assert scalar(service.sessions, "SELECT count(*) FROM jobs") == before + 1


KILLED = """
import sys, time, httpx
from lensqueue_client import Client

class Hangs(httpx.HTTPTransport):
    def handle_request(self, request):
        answer = super().handle_request(request)
        if sys.argv[3] == "hang":
            print("received", flush=True)
            time.sleep(600)
        return answer

with Client(transport=Hangs()) as client:
    job = client.submit_lens(sys.argv[1], ["cyan ring"], idempotency_key=sys.argv[2])
    print(client.wait(job).id)
"""


def test_a_client_that_is_killed_after_its_post_finds_its_job_again(service: RunningService) -> None:
    before = scalar(service.sessions, "SELECT count(*) FROM jobs")
    key = str(uuid.uuid4())
    argv = [sys.executable, "-c", KILLED, str(PATHS[0]), key]
    url = f"http://127.0.0.1:{service.port}"
    env = {**os.environ, "LENSQUEUE_URL": url, "LENSQUEUE_API_KEY": service.key}
    with subprocess.Popen([*argv, "hang"], env=env, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "received\n"
        first.send_signal(signal.SIGKILL)
    again = subprocess.run([*argv, "go on"], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert scalar(service.sessions, "SELECT count(*) FROM jobs") == before + 1
    with Client(url, service.key) as client:
        assert client.job(again.stdout.strip()).complete


def test_waiting_survives_a_restart_of_the_api(service: RunningService, sync_client: Client) -> None:
    job = sync_client.submit_lens(PATHS * 80, LABELS)
    begun = threading.Event()
    ended: list[Job] = []
    waiting = threading.Thread(
        target=lambda: ended.append(sync_client.wait(job, on_progress=lambda _: begun.set()))
    )
    waiting.start()
    begun.wait(30)
    service.signal("api", signal.SIGKILL)
    service.wait_until(lambda: not waiting.is_alive())
    assert ended[0].complete


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
