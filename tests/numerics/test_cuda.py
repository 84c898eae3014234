"""The engine on a GPU, by both of its runtimes: the laws, held against the formulas in float64."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from engine.catalog import DEMO_MODEL
from engine.folded import FoldedHead
from engine.lens import Lens
from engine.residual import run_stock
from engine.runtimes.choice import MAX_DRIFT
from engine.siglip import SiglipEngine
from engine.text import tokenize
from tests.numerics.reference import Reference, distance, unit

DEVICE = "cuda"
TOLERANCE = 1e-5
LABELS = ["red circle", "blue star", "green heart"]
TEXTS = ["This is a photo of a red circle.", "blue star", "Ring!"]
EVERYTHING = ("patch", "probe_attention", "contribution", "token_norms", "embeddings", "activations")
KINDS = [
    (checkpoint, runtime) for checkpoint in ("siglip", "siglip2", "demo") for runtime in ("torch", "compiled")
]

Array = NDArray[np.float64]

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # a batch size that is new to torch.compile takes seconds
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def engine(request: pytest.FixtureRequest) -> SiglipEngine:
    checkpoint, runtime = request.param
    return SiglipEngine(folder_of(request, checkpoint), device=DEVICE, runtime=runtime)


@pytest.fixture(scope="module", params=["siglip", "siglip2", "demo"])
def eager(request: pytest.FixtureRequest) -> SiglipEngine:
    """On the library's own modules, where laws hold to the bit."""
    return SiglipEngine(folder_of(request, request.param), device=DEVICE, runtime="torch")


def folder_of(request: pytest.FixtureRequest, checkpoint: str) -> Path | str:
    if checkpoint == "demo":
        return DEMO_MODEL
    folder: Path = request.getfixturevalue(f"{checkpoint}_folder")
    return folder


@pytest.fixture
def states(engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]) -> list[Array]:
    return reference.hidden_states(engine.normalize(pictures).numpy().astype(np.float64))


def flat(maps: ArrayLike) -> Array:
    """The grid of the last two axes as one of tokens."""
    array = np.asarray(maps, dtype=np.float64)
    return array.reshape(*array.shape[:-2], -1)


def test_all_of_it_is_on_the_gpu(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    assert engine.device.type == DEVICE
    assert engine.provenance["device_name"] == torch.cuda.get_device_name()
    assert {parameter.device.type for parameter in engine.model.parameters()} == {DEVICE}
    folded = [each for each in vars(engine._folded).values() if isinstance(each, torch.Tensor)]
    assert {each.device.type for each in folded} == {DEVICE}
    streamed = list(engine._runtime.stream(engine.normalize(pictures)))
    assert {state.device.type for state in streamed} == {DEVICE}
    del streamed
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    engine.lens(pictures, LABELS)
    one_state = len(pictures) * engine.config.patch_tokens * engine.config.hidden_size * 4
    assert torch.cuda.max_memory_allocated() - before > 2 * one_state


def test_the_runtime_that_was_chosen_serves(engine: SiglipEngine, request: pytest.FixtureRequest) -> None:
    assert engine.provenance["runtime_fallback"] is None
    assert engine.runtime == request.node.callspec.params["engine"][1]
    assert engine.provenance["runtime_drift"] < MAX_DRIFT["float32"] / 10
    assert engine.provenance["last_layer_self_check"] == 0.0


def test_a_gpu_is_taken_by_itself_and_its_blocks_are_compiled(siglip_folder: Path) -> None:
    engine = SiglipEngine(siglip_folder)
    assert (engine.device.type, engine.runtime) == (DEVICE, "compiled")


def test_the_last_layer_is_the_pooler_output_bit_for_bit(
    eager: SiglipEngine, pictures: list[Image.Image]
) -> None:
    pixel_values = eager.normalize(pictures)
    pooled, activations = eager.forward(pixel_values)
    stock = run_stock(eager.model.vision_model, pixel_values.to(DEVICE))
    assert torch.equal(eager.logit_lens(activations["hidden_states"][-1]), stock.pooled.cpu())
    assert torch.equal(pooled, stock.pooled.cpu())
    for ours, theirs in zip(activations["hidden_states"], stock.states, strict=True):
        assert torch.equal(ours, theirs.cpu())
    assert eager.provenance["runtime_drift"] == 0.0


def test_hidden_states_and_heads_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image], states: list[Array]
) -> None:
    pooled, activations = engine.forward(engine.normalize(pictures))
    folded = FoldedHead(engine.model.vision_model)
    for ours, theirs in zip(activations["hidden_states"], states, strict=True):
        expected = reference.pooled(theirs)
        assert distance(ours, theirs) < TOLERANCE
        assert distance(engine.logit_lens(ours), expected) < TOLERANCE
        assert distance(folded.read(ours.to(DEVICE)).cpu(), expected) < TOLERANCE
    assert distance(pooled, reference.pooled(states[-1])) < TOLERANCE
    assert distance(engine.embed_images(pictures), reference.pooled(states[-1])) < TOLERANCE


def test_texts_agree_with_the_formulas(engine: SiglipEngine, reference: Reference) -> None:
    ids = tokenize(engine.processor.tokenizer, TEXTS)[0].numpy()
    assert distance(engine.embed_text(TEXTS), reference.text_embedding(ids)) < TOLERANCE


def test_the_tolerance_notices_tf32(
    eager: SiglipEngine, pictures: list[Image.Image], record_property: Callable[[str, object], None]
) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    exact = eager.embed_images(pictures).double().numpy()
    with float32_precision("high"):
        moved = distance(eager.embed_images(pictures), exact)
    record_property("moved_by_tf32", moved)
    assert moved > TOLERANCE
    assert torch.get_float32_matmul_precision() == eager.provenance["float32_matmul_precision"] == "highest"


@contextmanager
def float32_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def test_every_output_of_the_lens_agrees_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image], states: list[Array]
) -> None:
    lens = engine.lens(
        pictures, LABELS, EVERYTHING, patch_layers="all", activation_layers="all", batch_size=2
    )
    by_value = engine.lens(pictures, LABELS, ("patch",), patch_layers="all", patch_method="value").patch
    prompts = [f"This is a photo of {label}." for label in LABELS]
    ids = tokenize(engine.processor.tokenizer, prompts)[0].numpy()
    text = unit(reference.text_embedding(ids))
    assert lens.patch is not None
    assert by_value is not None
    assert lens.probe_attention is not None
    assert lens.token_norms is not None
    assert lens.embeddings is not None
    assert lens.activations is not None
    for layer, state in enumerate(states):
        pooled = reference.pooled(state)
        patches = np.swapaxes(unit(reference.patches(state)) @ text.T, 1, 2)
        values = np.swapaxes(unit(reference.values(state)) @ text.T, 1, 2)
        assert np.abs(lens.cosine[:, layer] - unit(pooled) @ text.T).max() < TOLERANCE
        assert np.abs(flat(lens.patch.cosine[:, layer]) - patches).max() < TOLERANCE
        assert np.abs(flat(by_value.cosine[:, layer]) - values).max() < TOLERANCE
        attention = flat(lens.probe_attention.values[:, layer])
        assert distance(attention, reference.attention(state)) < TOLERANCE
        assert np.abs(attention.sum(axis=-1) - 1).max() < TOLERANCE
        norms = flat(lens.token_norms.values[:, layer])
        assert distance(norms, np.linalg.norm(state, axis=-1)) < TOLERANCE
        assert distance(lens.embeddings[:, layer], pooled) < TOLERANCE
        assert distance(lens.activations.values[:, layer], state) < TOLERANCE
        shares = np.swapaxes(reference.shares(state) @ text.T, 1, 2)
        assert np.abs(contributed(lens, layer)[0] - shares).max() < TOLERANCE
        assert np.abs(contributed(lens, layer)[1] - lens.cosine[:, layer]).max() < TOLERANCE
    assert lens.head_deviation is not None
    assert lens.head_deviation < TOLERANCE


def contributed(lens: Lens, layer: int) -> tuple[Array, Array]:
    """The tokens' shares at a layer, and what all parts add up to."""
    parts = lens.contribution
    assert parts is not None
    patches = flat(parts.patches[:, layer])
    return patches, patches.sum(axis=-1) + parts.bias[:, layer] + parts.mlp[:, layer]


def test_the_same_input_gives_the_same_bits(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    assert torch.equal(engine.embed_images(pictures), engine.embed_images(pictures))
    assert torch.equal(engine.embed_text(TEXTS), engine.embed_text(TEXTS))
    once, again = (engine.lens(pictures, LABELS, EVERYTHING, patch_layers="all") for _ in range(2))
    np.testing.assert_array_equal(once.cosine, again.cosine)
    for output in EVERYTHING:
        ours, theirs = getattr(once, output), getattr(again, output)
        for field in ("cosine", "values", "patches", "bias", "mlp"):
            if hasattr(ours, field):
                np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_neither_batch_size_nor_filling_up_changes_more_than_roundings(
    engine: SiglipEngine, pictures: list[Image.Image], batch_size: int
) -> None:
    whole = engine.lens(pictures, LABELS, ("patch", "embeddings"))
    parts = engine.lens(pictures, LABELS, ("patch", "embeddings"), batch_size=batch_size)
    assert np.abs(whole.cosine - parts.cosine).max() < TOLERANCE
    assert whole.patch is not None
    assert parts.patch is not None
    assert np.abs(whole.patch.cosine - parts.patch.cosine).max() < TOLERANCE
    embedded = engine.embed_images(pictures, batch_size=batch_size)
    assert distance(embedded, engine.embed_images(pictures).double().numpy()) < TOLERANCE


def test_a_gpu_and_a_cpu_give_the_same_lens(
    demo: SiglipEngine, scenes: list[tuple[Image.Image, str]]
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device=DEVICE)
    drawn = [picture for picture, _ in scenes]
    ours, theirs = (each.lens(drawn, LABELS, ("patch",), patch_layers="all") for each in (engine, demo))
    assert np.abs(ours.cosine - theirs.cosine).max() < TOLERANCE
    assert ours.patch is not None
    assert theirs.patch is not None
    assert np.abs(ours.patch.cosine - theirs.patch.cosine).max() < TOLERANCE
    np.testing.assert_array_equal(ours.final_top, theirs.final_top)
