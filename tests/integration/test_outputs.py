"""Every output of a lens from submit to file: what a worker stored is what the engine gives."""

import base64
import errno
import io
import os
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load
from sqlalchemy.orm import Session, sessionmaker

from engine import sizes
from engine.catalog import DEMO_MODEL
from engine.lens import MLP_SHARE, Lens
from engine.plan import OUTPUTS, TOKEN_OUTPUTS
from engine.siglip import SiglipEngine
from jobs.blobs import BlobStore
from jobs.keys import create_key
from jobs.outputs import PARTS
from tests.conftest import SAMPLES
from tests.faults import change
from tests.ledger import MODEL, assert_settled, scalar
from tests.runtimes import runtime_of
from worker import compute, time_slice
from worker.heartbeat import Heartbeat
from worker.runtime import Runtime, open_decoders

Sessions = sessionmaker[Session]

LABELS = ["cyan ring", "red diamond", "orange square"]
FILES = [SAMPLES / f"scene-0000{number}.jpg" for number in range(2)]
EVERYTHING: dict[str, Any] = {
    "outputs": list(OUTPUTS),
    "patch_layers": [0, 3, 6],
    "activation_layers": [2, 6],
    "activation_tokens": [0, 45, 99],
    "softmax": True,
    "uncalibrated": True,
}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def demo_engine() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu")


@pytest.fixture
def runtime(demo_engine: SiglipEngine, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat) -> Runtime:
    return runtime_of(demo_engine, sessions, blobs, heartbeat)


def work(runtime: Runtime) -> None:
    """Run what waits, with decoders of its own."""
    with open_decoders(runtime.settings, runtime.engine.provenance["pixel_path"]) as decoders:
        time_slice.run_slice(replace(runtime, decoders=decoders))


def submit(api: TestClient, options: dict[str, Any], labels: list[str] | None = None) -> str:
    """The address of a queued lens of two pictures."""
    images = [{"data": base64.b64encode(file.read_bytes()).decode()} for file in FILES]
    body = {"type": "logit_lens", "model": MODEL, "labels": labels or LABELS, "options": options}
    accepted = api.post("/v1/jobs", json=body | {"input": {"images": images}})
    assert accepted.status_code == 202, accepted.text
    return str(accepted.json()["links"]["self"])


def finished(api: TestClient, runtime: Runtime, options: dict[str, Any], **more: Any) -> str:
    job = submit(api, options, **more)
    work(runtime)
    assert api.get(job).json()["state"] == "succeeded"
    assert_settled(runtime.sessions)
    return job


def fetched(api: TestClient, url: str) -> NDArray[np.float32]:
    answer = api.get(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    array: NDArray[np.float32] = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert array.dtype == np.float32
    return array


def expected_of(engine: SiglipEngine) -> Lens:
    settings = {name: value for name, value in EVERYTHING.items() if name != "outputs"}
    return engine.lens([Image.open(file) for file in FILES], LABELS, OUTPUTS, **settings)


def assert_near(found: Any, expected: NDArray[np.floating]) -> None:
    assert np.shape(found) == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * max(1.0, float(np.abs(expected).max()))


@pytest.mark.slow_chaos
def test_a_disk_that_stays_full_is_no_fault_of_the_work(
    api: TestClient,
    sessions: Sessions,
    blobs: BlobStore,
    heartbeat: Heartbeat,
    demo_engine: SiglipEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = runtime_of(demo_engine, sessions, blobs, heartbeat, hard_limit_seconds=3)
    job = submit(api, {"outputs": ["patch"]})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        work(runtime)
    assert api.get(job).json()["state"] == "running"
    assert scalar(sessions, "SELECT max(losses) FROM work") == 0
    change(sessions, "UPDATE work SET run_at = now()")
    # of three seconds a busy machine may need more than a lease lasts
    work(runtime_of(demo_engine, sessions, blobs, heartbeat))
    assert api.get(job).json()["state"] == "succeeded"
    assert_settled(sessions)


def test_every_output_is_fetched_as_the_engine_gives_it(
    api: TestClient, runtime: Runtime, demo_engine: SiglipEngine
) -> None:
    job = finished(api, runtime, EVERYTHING)
    lens = expected_of(demo_engine)
    assert lens.patch
    assert lens.probe_attention
    assert lens.token_norms
    assert lens.contribution
    assert lens.activations
    assert lens.embeddings is not None
    arrays = {
        ("patch", "url"): lens.patch.cosine,
        ("probe_attention", "url"): lens.probe_attention.values,
        ("token_norms", "url"): lens.token_norms.values,
        ("contribution", "url"): lens.contribution.patches,
        ("contribution", "bias_url"): lens.contribution.bias,
        ("contribution", "mlp_url"): lens.contribution.mlp,
        ("embeddings", "url"): lens.embeddings,
    }
    assert len(arrays) == len(PARTS) - 1
    for row in range(len(FILES)):
        item = api.get(f"{job}/items/{row}").json()
        for (output, url), values in arrays.items():
            assert_near(fetched(api, item[output][url]), values[row])
            if url == "url":
                assert item[output]["shape"] == list(values[row].shape)
                assert len(item[output]["axes"]) == values[row].ndim
        for output in TOKEN_OUTPUTS:
            assert (item[output]["layers"], item[output]["grid"]) == ([0, 3, 6], [10, 10])
        assert item["contribution"]["labels"] == LABELS
        share = lens.contribution.mlp_share[row].max()
        warned = item["contribution"]["mlp_share"]
        assert warned["max"] == pytest.approx(share, abs=TOLERANCE)
        assert (warned["limit"], warned["warning"]) == (MLP_SHARE, bool(share > MLP_SHARE))


def test_activations_are_a_safetensors_file_with_a_tensor_a_layer(
    api: TestClient, runtime: Runtime, demo_engine: SiglipEngine
) -> None:
    job = finished(api, runtime, EVERYTHING)
    _, states = demo_engine.forward(demo_engine.normalize([Image.open(file) for file in FILES]))
    for row in range(len(FILES)):
        says = api.get(f"{job}/items/{row}").json()["activations"]
        assert says["layers"] == [2, 6]
        assert says["tokens"] == [0, 45, 99]
        assert says["shape"] == [2, 3, 128]
        assert (says["dtype"], says["format"], says["axes"]) == (
            "float32",
            "safetensors",
            ["layer", "token", "width"],
        )
        answer = api.get(says["url"])
        assert answer.headers["Content-Disposition"] == (
            f'attachment; filename="item-{row}-activations.safetensors"'
        )
        tensors = load(answer.content)
        assert set(tensors) == {"hidden_states.2", "hidden_states.6"}
        for layer in (2, 6):
            expected = states["hidden_states"][layer][row, [0, 45, 99]].numpy()
            assert_near(tensors[f"hidden_states.{layer}"], expected)


def test_the_rows_hold_ranks_and_what_was_asked_for_beside_cosines(
    api: TestClient, runtime: Runtime, demo_engine: SiglipEngine
) -> None:
    lens = expected_of(demo_engine)
    job = finished(api, runtime, EVERYTHING)
    plain = finished(api, runtime, {})
    assert lens.uncalibrated
    assert lens.uncalibrated.softmax is not None
    assert lens.final_softmax is not None
    for row in range(len(FILES)):
        pooled = api.get(f"{job}/items/{row}").json()["pooled"]
        assert pooled["rank"] == lens.rank[row].tolist()
        assert_near(pooled["uncalibrated"]["logit"], lens.uncalibrated.logit[row])
        assert_near(pooled["uncalibrated"]["match_probability"], lens.uncalibrated.match_probability[row])
        np.testing.assert_allclose(
            pooled["uncalibrated"]["softmax"], lens.uncalibrated.softmax[row], atol=1e-4
        )
        np.testing.assert_allclose(pooled["final"]["softmax"], lens.final_softmax[row], atol=1e-4)
        assert sum(pooled["final"]["softmax"]) == pytest.approx(1)
        bare = api.get(f"{plain}/items/{row}").json()
        assert set(bare["pooled"]) == {"layers", "labels", "cosine", "rank", "final"}
        assert set(bare["pooled"]["final"]) == {"logit", "match_probability"}
        assert not set(bare) & set(OUTPUTS[1:])


def test_an_item_with_everything_stays_small_and_says_nothing_of_the_store(
    api: TestClient, runtime: Runtime
) -> None:
    labels = [f"{colour} {shape}" for colour in ("red", "cyan") for shape in ("ring", "heart", "star")]
    job = finished(
        api, runtime, EVERYTHING | {"patch_layers": "all", "activation_layers": "all"}, labels=labels
    )
    answer = api.get(f"{job}/results")
    assert b"stored" not in answer.content
    for item in answer.json()["items"]:
        assert len(orjson.dumps(item)) < 256_000
        without = {name: value for name, value in item.items() if name not in {"pooled", "top"}}
        assert len(orjson.dumps(without)) < 10_000


def test_kept_embeddings_reproduce_the_scores_of_the_job_without_a_pass(
    api: TestClient, runtime: Runtime, demo_engine: SiglipEngine
) -> None:
    job = finished(api, runtime, {"outputs": ["embeddings"]})
    items = api.get(f"{job}/results").json()["items"]
    kept = np.stack([fetched(api, item["embeddings"]["url"]) for item in items])
    layers = items[0]["embeddings"]["layers"]
    again = demo_engine.rescore(kept, LABELS, layers=layers)
    cosine = np.array([item["pooled"]["cosine"] for item in items])
    assert np.abs(again.cosine - cosine).max() <= 1e-6
    assert [LABELS[label] for label in again.final_top] == [item["top"]["label"] for item in items]
    assert [item["pooled"]["rank"] for item in items] == again.rank.tolist()


def test_a_fetched_output_is_answered_by_304_once_it_is_known(api: TestClient, runtime: Runtime) -> None:
    job = finished(api, runtime, {"outputs": ["embeddings", "token_norms"]})
    first = api.get(f"{job}/items/0/outputs/embeddings")
    known = {"If-None-Match": first.headers["ETag"]}
    again = api.get(f"{job}/items/0/outputs/embeddings", headers=known)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", known["If-None-Match"])
    for other in ("0/outputs/token_norms", "1/outputs/embeddings"):
        assert api.get(f"{job}/items/{other}", headers=known).status_code == 200


def test_what_was_not_asked_for_is_answered_with_what_is_there(
    api: TestClient, runtime: Runtime, blobs: BlobStore
) -> None:
    job = finished(api, runtime, {"outputs": ["embeddings", "contribution"]})
    plain = finished(api, runtime, {})

    def refused(url: str) -> tuple[int, str, str]:
        answer = api.get(url)
        return answer.status_code, answer.json()["code"], answer.json()["detail"]

    for name in ("activations", "patch", "pooled", "../scores", "a\x00b"):
        status, code, _ = refused(f"{job}/items/0/outputs/{name.replace('/', '%2F').replace(chr(0), '%00')}")
        assert (status, code) in {(404, "no-output"), (404, "not-found")}
    assert refused(f"{job}/items/0/outputs/activations")[2].endswith(
        "there are: contribution, contribution_bias, contribution_mlp, embeddings."
    )
    assert refused(f"{plain}/items/0/outputs/embeddings")[:2] == (404, "no-output")
    assert refused(f"{job}/items/2/outputs/embeddings")[:2] == (404, "not-found")
    assert refused(f"{job}/items/0/scores")[:2] == (404, "no-maps")
    assert refused(f"{job}/items/0/heatmap.png?map=token_norms")[2].endswith("there are: contribution.")
    assert refused(f"{job}/items/0/heatmap.png?map=pooled")[0] == 422
    for path in blobs.folder.rglob("objects/*/*/*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert refused(f"{job}/items/1/outputs/embeddings")[:2] == (410, "blob-missing")
    for path in blobs.folder.rglob("objects/*/*/*"):
        path.unlink()
    assert refused(f"{job}/items/0/outputs/embeddings")[:2] == (410, "blob-missing")


def test_another_tenants_outputs_are_answered_as_unknown(
    api: TestClient, runtime: Runtime, sessions: Sessions
) -> None:
    job = finished(api, runtime, {"outputs": ["embeddings"]})
    with sessions.begin() as session:
        stranger = {"Authorization": f"Bearer {create_key(session, name='stranger', tenant='another').key}"}
    unknown = f"/v1/jobs/job_{uuid.uuid4().hex}"
    answers = [
        api.get(f"{url}/items/0/outputs/embeddings", headers=stranger).json() | {"request_id": None}
        for url in (job, unknown)
    ]
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "not-found"


def test_every_map_is_drawn_over_one_scale_a_picture(api: TestClient, runtime: Runtime) -> None:
    job = finished(api, runtime, {"outputs": list(TOKEN_OUTPUTS), "patch_layers": [0, 6]})
    item = api.get(f"{job}/items/0").json()
    drawn = {}
    for output in TOKEN_OUTPUTS:
        heatmap = api.get(item[output]["heatmap_url"])
        assert heatmap.headers["Content-Type"] == "image/png"
        drawn[heatmap.content] = output
        overlay = Image.open(io.BytesIO(api.get(item[output]["overlay_url"]).content))
        assert overlay.width == 512
        assert api.get(item[output]["thumbnail_url"]).headers["Content-Type"] == "image/jpeg"
        other = api.get(f"{job}/items/0/heatmap.png", params={"map": output, "layer": 0})
        assert other.content != heatmap.content
        low, high = item[output]["scale"]["low"], item[output]["scale"]["high"]
        values = fetched(api, item[output]["url"])
        if output == "probe_attention":
            values = values.mean(axis=1)
        assert high == pytest.approx(float(values.max()), abs=TOLERANCE) or output == "contribution"
        assert low == (-high if output == "contribution" else pytest.approx(float(np.median(values))))
    assert len(drawn) == len(TOKEN_OUTPUTS)
    contrast = {"map": "contribution", "label": LABELS[0], "contrast": LABELS[1]}
    assert api.get(f"{job}/items/0/heatmap.png", params=contrast).status_code == 200
    assert api.get(f"{job}/items/0/heatmap.png").content == api.get(item["patch"]["heatmap_url"]).content
    for refused in ({"label": LABELS[0]}, {"contrast": LABELS[0]}):
        answer = api.get(f"{job}/items/0/overlay.png", params={"map": "token_norms"} | refused)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_nothing_is_stored_of_numbers_that_are_not_finite(
    api: TestClient, sessions: Sessions, blobs: BlobStore, heartbeat: Heartbeat
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device="cpu")
    runtime = runtime_of(engine, sessions, blobs, heartbeat)
    job = submit(api, EVERYTHING)
    with torch.no_grad():
        engine.model.vision_model.embeddings.position_embedding.weight[4] = torch.nan
    work(runtime)
    assert api.get(job).json()["state"] == "failed"
    for item in api.get(f"{job}/results").json()["items"]:
        assert item["error"]["code"] == "result-not-finite"
        assert not set(item) & set(OUTPUTS)
    assert list(blobs.folder.rglob("objects/*/*/*")) == []
    assert api.get(f"{job}/items/0/outputs/embeddings").json()["code"] == "no-output"


def test_passes_are_as_small_as_their_activations_ask_for(
    api: TestClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, demo_engine: SiglipEngine
) -> None:
    a_picture = 7 * 100 * 128 * 4
    for module in (sizes, compute):
        monkeypatch.setattr(module, "ACTIVATION_BYTES", a_picture)
    passes: list[int] = []
    lens = demo_engine.lens

    def watched(images: list[Any], *arguments: Any, **settings: Any) -> Lens:
        passes.append(len(images))
        return lens(images, *arguments, **settings)

    monkeypatch.setattr(demo_engine, "lens", watched)
    finished(api, runtime, {"outputs": ["activations"], "activation_layers": "all"})
    assert passes == [1, 1]
