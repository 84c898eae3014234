"""Law 3b: what bfloat16 may change of an answer, over a thousand scenes of the demo world."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from demo.drawing import render
from demo.sampling import gallery
from engine.catalog import DEMO_MODEL
from engine.lens import Lens
from engine.siglip import SiglipEngine
from tests.numerics.checkpoints import COLOURS, SHAPES

SCENES = 1_000
SEED = 5
PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
MAX_COSINE = 0.005
AGREEMENT = 0.995
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    return [render(scene, 160) for scene in gallery(SEED, SCENES)]


@pytest.fixture(scope="module")
def exact(drawn: list[Image.Image], demo: SiglipEngine) -> Lens:
    return demo.lens(drawn, PAIRS)


@pytest.mark.parametrize(
    ("device", "runtime"),
    [
        ("cpu", "torch"),
        ("cpu", "openvino"),
        pytest.param("cuda", "torch", marks=needs_cuda),
        pytest.param("cuda", "compiled", marks=needs_cuda),
    ],
)
def test_bfloat16_moves_no_cosine_far_and_hardly_any_winner(
    drawn: list[Image.Image],
    exact: Lens,
    device: str,
    runtime: str,
    record_property: Callable[[str, object], None],
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device=device, dtype="bfloat16", runtime=runtime)
    assert (engine.device.type, engine.runtime) == (device, runtime)
    lens = engine.lens(drawn, PAIRS)
    moved = np.abs(lens.cosine - exact.cosine)
    agreement = (lens.top == exact.top).mean(axis=0)
    record_property("cosine_moved", float(moved.max()))
    record_property("agreement", float(agreement.min()))
    record_property(
        "logit_moved_at_the_last_layer", float(np.abs(lens.final_logit - exact.final_logit).max())
    )
    assert moved.max() > 0, "it did not run in bfloat16"
    assert moved.max() <= MAX_COSINE
    assert agreement.min() >= AGREEMENT
