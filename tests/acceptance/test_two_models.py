"""Two models side by side: each has workers and a queue of its own, and one may fail without the other."""

import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.standing import ROOT, Up
from tests.conftest import SAMPLES
from tests.ledger import MODEL
from tests.numerics.checkpoints import save_siglip

SECOND = "tests/second"
SIZES = {MODEL: (6, 128), SECOND: (3, 32)}
SECONDS = 60


class TwoModels:
    """`lensqueue up` with the demo checkpoint and a second one, whose weights are not there yet."""

    def __init__(self, folder: Path) -> None:
        self.checkpoints = {MODEL: ROOT / "demo" / "checkpoint", SECOND: save_siglip(folder / "second")}
        self.weights = self.checkpoints[SECOND] / "model.safetensors"
        self.aside = folder / "weights"
        self.weights.rename(self.aside)
        paths = json.dumps({SECOND: str(self.checkpoints[SECOND])})
        self.up = Up(folder / "state", "--model", MODEL, "--model", SECOND, LENSQUEUE_MODEL_PATHS=paths)
        self.up.wait_until_ready()
        key = (self.up.state / "api-key").read_text().strip()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.up.port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=SECONDS,
        )

    def bring_weights(self) -> None:
        if self.aside.exists():
            shutil.move(self.aside, self.weights)

    def submit(self, model: str, kind: str) -> dict[str, Any]:
        wanted: dict[str, Any] = {"type": kind, "model": model}
        if kind == "logit_lens":
            wanted["labels"] = ["cyan ring", "red heart"]
        picture = ("images", ("scene.jpg", (SAMPLES / "scene-00000.jpg").read_bytes(), "image/jpeg"))
        answer = self.client.post("/v1/jobs", data={"job": json.dumps(wanted)}, files=[picture])
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get(job["links"]["self"], headers={"Prefer": f"wait={SECONDS}"})
        ended: dict[str, Any] = answer.raise_for_status().json()
        assert ended["done"], ended
        return ended

    def model(self, name: str) -> dict[str, Any]:
        view: dict[str, Any] = self.client.get(f"/v1/models/{name}").raise_for_status().json()
        return view

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < until, self.up.output.read_text()
            time.sleep(0.05)

    def assert_answered_by(self, model: str, job: dict[str, Any]) -> None:
        """By its sizes and its weights, the model it names and no other did the job."""
        ended = self.finish(job)
        assert (ended["state"], ended["model"]) == ("succeeded", model)
        digest = hashlib.sha256((self.checkpoints[model] / "model.safetensors").read_bytes()).hexdigest()
        provenance = ended["provenance"]
        assert (provenance["model"], provenance["weights_sha256"]) == (model, digest)
        (item,) = self.client.get(ended["links"]["results"]).raise_for_status().json()["items"]
        layers, width = SIZES[model]
        if ended["type"] == "logit_lens":
            assert item["pooled"]["layers"] == list(range(layers + 1))
        else:
            assert len(item["embedding"]) == width


@pytest.fixture(scope="module")
def two(state_folder: Path) -> Iterator[TwoModels]:
    folder = state_folder / "two"
    folder.mkdir(mode=0o711)
    running = TwoModels(folder)
    yield running
    running.client.close()
    running.up.process.kill()
    running.up.process.wait()


def test_jobs_of_a_model_that_cannot_be_loaded_wait_while_the_other_serves(two: TwoModels) -> None:
    two.wait_until(lambda: two.model(SECOND)["error"] is not None)
    waiting = [two.submit(SECOND, kind) for kind in ("logit_lens", "embedding")]
    two.assert_answered_by(MODEL, two.submit(MODEL, "logit_lens"))
    second = two.model(SECOND)
    assert (second["workers_online"], second["error"]["code"]) == (0, "model-load-failed")
    assert second["queue"]["waiting_items"] == 2
    assert second["queue"]["oldest_s"] >= 0
    assert two.model(MODEL)["queue"]["waiting_items"] == 0
    for job in waiting:
        polled = two.client.get(job["links"]["self"]).json()
        assert (polled["state"], polled["workers_online"]) == ("queued", 0)
    assert f"{SECOND}: cannot load" in two.up.output.read_text()
    two.bring_weights()
    for job in waiting:
        two.assert_answered_by(SECOND, job)
    two.wait_until(lambda: f"{SECOND}: online" in two.up.output.read_text())
    second = two.model(SECOND)
    assert (second["workers_online"], second["error"], second["queue"]["waiting_items"]) == (1, None, 0)


def test_every_job_is_answered_by_the_model_that_it_names(two: TwoModels) -> None:
    two.bring_weights()
    two.wait_until(lambda: two.model(SECOND)["workers_online"] == 1)
    submitted = [
        (model, two.submit(model, kind))
        for _ in range(3)
        for kind in ("logit_lens", "embedding")
        for model in (MODEL, SECOND)
    ]
    for model, job in submitted:
        two.assert_answered_by(model, job)
    named_none = two.client.post(
        "/v1/jobs",
        json={"type": "embedding", "input": {"texts": ["a ring"]}},
        headers={"Prefer": f"wait={SECONDS}"},
    )
    assert (named_none.status_code, named_none.json()["model"]) == (200, MODEL), "the first --model"


def test_one_who_waits_is_answered_when_the_service_ends(two: TwoModels) -> None:
    never = two.submit("google/siglip-base-patch16-224", "embedding")
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(two.client.get, never["links"]["self"], headers={"Prefer": "wait=60"})
        time.sleep(0.5)
        started = time.monotonic()
        two.up.process.send_signal(signal.SIGTERM)
        assert poll.result().json()["state"] == "queued"
        assert two.up.process.wait(timeout=SECONDS) == 0
        assert time.monotonic() - started < 20, "nothing waits for one who waits"
