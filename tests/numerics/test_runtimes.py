"""Runtimes: which one serves, and that none may serve that computes something else than the reference."""

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from openvino import opset15
from PIL import Image

from engine.catalog import DEMO_MODEL
from engine.errors import InvalidArgumentError, RuntimeFallbackWarning
from engine.residual import run_stock
from engine.runtimes.choice import MAX_DRIFT, Started, choose_runtime, measure_drift, start_runtime
from engine.runtimes.compiled import bucket
from engine.runtimes.eager import EagerRuntime
from engine.runtimes.openvino_runtime import OpenVinoRuntime
from engine.siglip import SiglipEngine
from tests.numerics.checkpoints import save_siglip

LABELS = ["red circle", "blue star", "green heart"]
CPU = torch.device("cpu")
needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)


def start(engine: SiglipEngine) -> Started:
    """OpenVINO on the checkpoint of this engine."""
    vision, ramp = engine.model.vision_model, engine._ramp()
    return start_runtime("openvino", vision, "float32", engine._folded, ramp, run_stock(vision, ramp))


def test_a_cpu_gets_openvino_and_says_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeFallbackWarning)
        engine = SiglipEngine(DEMO_MODEL, device="cpu")
    assert engine.runtime == engine.provenance["runtime"] == "openvino"
    assert engine.provenance["runtime_fallback"] is None
    assert 0 < engine.provenance["runtime_drift"] < MAX_DRIFT["float32"] / 10
    assert engine.provenance["openvino_precision"] == "f32"


def test_the_choice_follows_the_device() -> None:
    assert choose_runtime("auto", CPU) == "openvino"
    assert choose_runtime("auto", torch.device("cuda")) == "compiled"
    assert choose_runtime("torch", CPU) == "torch"
    with pytest.raises(InvalidArgumentError, match="choose compiled"):
        choose_runtime("openvino", torch.device("cuda"))


def test_a_runtime_that_computes_something_else_is_replaced_and_that_is_said(
    demo: SiglipEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the wrong GELU is the smallest mistake that a formula of the tower can have, and must be seen
    gelu = opset15.gelu
    monkeypatch.setattr(opset15, "gelu", lambda inner, _: gelu(inner, "erf"))
    with pytest.warns(RuntimeFallbackWarning, match="torch serves instead: openvino is .* off"):
        started = start(demo)
    assert started.runtime.name == "torch"
    assert started.drift == 0
    assert started.fallback is not None
    assert "is allowed" in started.fallback


def test_a_runtime_that_cannot_be_started_is_replaced_and_that_is_said(
    demo: SiglipEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtimes.openvino_runtime._PRECISIONS", {"float32": "no precision"})
    with pytest.warns(RuntimeFallbackWarning, match="openvino cannot be started"):
        started = start(demo)
    assert started.runtime.name == "torch"


def test_what_forward_returned_is_not_written_over_by_the_next_batch(
    fast_demo: SiglipEngine, pictures: list[Image.Image]
) -> None:
    _, first = fast_demo.forward(fast_demo.normalize(pictures[:2]))
    kept = [state.clone() for state in first["hidden_states"]]
    fast_demo.forward(fast_demo.normalize(pictures[2:4]))
    assert all(torch.equal(a, b) for a, b in zip(first["hidden_states"], kept, strict=True))


def test_batches_that_are_too_large_for_memory_are_parted(
    demo: SiglipEngine, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device="cpu", runtime="openvino")
    whole = engine.lens(pictures, LABELS)
    monkeypatch.setattr(engine._runtime, "most_images", 2)
    seen: list[int] = []
    stream = engine._runtime.stream

    def watch(pixel_values: torch.Tensor) -> object:
        seen.append(len(pixel_values))
        return stream(pixel_values)

    monkeypatch.setattr(engine._runtime, "stream", watch)
    assert np.abs(engine.lens(pictures, LABELS).cosine - whole.cosine).max() < 1e-5
    pooled, activations = engine.forward(engine.normalize(pictures))
    assert pooled.shape[0] == len(activations["hidden_states"][0]) == len(pictures)
    engine.embed_images(pictures)
    assert seen == [2, 2, 1] * 3


def test_a_runtime_that_gives_no_numbers_is_replaced(
    demo: SiglipEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # layer 0 is torch's own: with all the others undefined, it alone must not vouch for the runtime
    gelu = opset15.gelu
    nan = opset15.constant(np.array(np.nan, dtype=np.float32))
    monkeypatch.setattr(opset15, "gelu", lambda inner, form: opset15.multiply(gelu(inner, form), nan))
    with pytest.warns(RuntimeFallbackWarning, match="openvino is nan off"):
        assert start(demo).runtime.name == "torch"


def test_a_lens_that_nobody_finished_holds_up_no_other(
    fast_demo: SiglipEngine, pictures: list[Image.Image]
) -> None:
    pixel_values = fast_demo.normalize(pictures[:2])
    before = fast_demo.lens(pictures[:2], LABELS)
    # as after Ctrl-C, whose traceback keeps what was under way
    abandoned = fast_demo._runtime.stream(pixel_values)
    kept = [next(abandoned), next(abandoned)]
    again = fast_demo.lens(pictures[:2], LABELS)
    np.testing.assert_array_equal(before.cosine, again.cosine)
    assert len(kept) == 2


def test_threads_with_one_engine_get_their_own_answers(
    fast_demo: SiglipEngine, pictures: list[Image.Image]
) -> None:
    outputs = ("pooled", "activations", "embeddings")
    alone = [fast_demo.lens([picture], LABELS, outputs) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        asked = pictures * 20
        answers = list(threads.map(lambda picture: fast_demo.lens([picture], LABELS, outputs), asked))
    for answer, wanted in zip(answers, alone * 20, strict=True):
        np.testing.assert_array_equal(answer.cosine, wanted.cosine)
        assert answer.activations is not None
        assert wanted.activations is not None
        np.testing.assert_array_equal(answer.activations.values, wanted.activations.values)


def test_the_hidden_states_of_a_batch_are_bounded(tmp_path: Path) -> None:
    engine = SiglipEngine(save_siglip(tmp_path / "checkpoint"), device="cpu", runtime="openvino")
    states = (engine.config.layers + 1) * engine.config.patch_tokens * engine.config.hidden_size * 4
    assert engine._runtime.most_images == 512 * 2**20 // states


def test_a_batch_size_is_filled_up_to_a_power_of_two() -> None:
    assert [bucket(count) for count in (1, 2, 3, 4, 5, 8, 9, 512)] == [1, 2, 4, 4, 8, 8, 16, 512]


@needs_a_compiler
@pytest.mark.timeout(300)
def test_compiled_blocks_keep_the_law_whatever_a_batch_is_filled_up_with(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    engine = SiglipEngine(siglip.model.config._name_or_path, device="cpu", runtime="compiled")
    assert engine.runtime == "compiled", engine.provenance["runtime_fallback"]
    for count in (3, 4, 1):
        ours, theirs = (each.lens(pictures[:count], LABELS) for each in (engine, siglip))
        assert np.abs(ours.cosine - theirs.cosine).max() < 1e-5
    pooled, activations = engine.forward(engine.normalize(pictures[:3]))
    assert {len(state) for state in activations["hidden_states"]} == {len(pooled)} == {3}


@needs_a_compiler
@pytest.mark.timeout(300)
def test_every_batch_size_is_compiled(siglip: SiglipEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # what gives up after some sizes is the tracer, whatever then makes code of its graphs: C++ takes 3 s each
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    side = siglip.config.img_size
    generator = torch.Generator().manual_seed(4)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        engine = SiglipEngine(siglip.model.config._name_or_path, device="cpu", runtime="compiled")
        for count in [1 << power for power in range(10)]:
            pixel_values = torch.rand((count, 3, side, side), generator=generator) * 2 - 1
            ours, theirs = (each.forward(pixel_values)[0] for each in (engine, siglip))
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max(), count
    assert engine.runtime == "compiled"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_drift_of_a_sound_runtime_is_far_below_its_bound(dtype: str) -> None:
    engine = SiglipEngine(DEMO_MODEL, device="cpu", runtime="torch", dtype=dtype)
    vision = engine.model.vision_model
    ramp = engine._ramp()
    stock = run_stock(vision, ramp)
    for runtime in (OpenVinoRuntime(vision, dtype), EagerRuntime(vision, dtype)):
        drift = measure_drift(runtime, engine._folded, ramp, stock)
        assert drift < MAX_DRIFT[dtype] / 5
        # the library's modules one by one are the library
        assert (drift == 0) == (runtime.name == "torch" and dtype == "float32")
