"""Law 4: all eleven checkpoints at their real dimensions, random weights, through the hub's code path.

Each is built once, and every public method of the engine is run on it.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.runtimes.eager import EagerRuntime
from engine.siglip import SiglipEngine
from tests.full.catalog import Facts, read_facts
from tests.full.conftest import COMMIT

ELEVEN = read_facts()
LABELS = ["red circle", "blue star", "green heart"]
TEXTS = ["this is a photo of a red circle", "yes"]
EVERYTHING = ["patch", "probe_attention", "contribution", "token_norms", "embeddings", "activations"]
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, what is known of it, and one forward pass."""

    engine: SiglipEngine
    facts: Facts
    picture: Image.Image
    pooled: torch.Tensor
    activations: dict[str, Any]


@pytest.fixture(scope="module", params=ELEVEN, ids=lambda facts: facts.name.removeprefix("google/"))
def loaded(request: pytest.FixtureRequest, put_on_the_hub: Callable[[Facts], None]) -> Iterator[Loaded]:
    facts: Facts = request.param
    put_on_the_hub(facts)
    noise = np.random.default_rng(3).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    engine, picture = SiglipEngine(facts.name, device="cpu"), Image.fromarray(noise)
    yield Loaded(engine, facts, picture, *engine.forward(engine.normalize(picture)))
    gc.collect()


def test_there_are_eleven() -> None:
    assert len({facts.name for facts in ELEVEN}) == 11


def test_it_is_loaded_by_its_name_and_its_config_is_read(loaded: Loaded) -> None:
    engine, facts = loaded.engine, loaded.facts
    config = engine.config
    assert (engine.provenance["model"], engine.provenance["revision"]) == (facts.name, COMMIT)
    # held against the library's own modules when it was loaded
    assert (engine.runtime, engine.provenance["runtime_fallback"]) == ("openvino", None)
    assert (config.img_size, config.patch_size, config.grid) == (
        facts.image_size,
        facts.patch_size,
        (facts.grid, facts.grid),
    )
    assert (config.hidden_size, config.layers) == (facts.hidden_size, facts.layers)
    assert (config.attention_heads, config.mlp_size) == (facts.attention_heads, facts.mlp_size)
    assert config.patch_tokens == facts.patch_tokens
    vision = sum(parameter.numel() for parameter in engine.model.vision_model.parameters())
    assert vision == facts.vision_parameters


def test_pictures_are_normalised(loaded: Loaded) -> None:
    pixel_values = loaded.engine.normalize([loaded.picture] * 2)
    assert pixel_values.shape == (2, 3, loaded.facts.image_size, loaded.facts.image_size)
    assert pixel_values.dtype == torch.float32
    assert -1 <= pixel_values.min() < -0.5 < 0.5 < pixel_values.max() <= 1


def test_the_lens_of_the_last_layer_is_the_answer_and_hidden_states_are_consistent(loaded: Loaded) -> None:
    engine, facts = loaded.engine, loaded.facts
    pooled, states = loaded.pooled, loaded.activations["hidden_states"]
    assert pooled.shape == (1, facts.hidden_size)
    assert [tuple(state.shape) for state in states] == [(1, facts.patch_tokens, facts.hidden_size)] * (
        facts.layers + 1
    )
    assert loaded.activations["token_embeddings"] is states[-1]
    assert engine.logit_lens(states[0][0]).shape == (facts.hidden_size,)
    with torch.no_grad():
        stock = engine.model.vision_model(engine.normalize(loaded.picture), output_hidden_states=True)
    assert bool(stock.pooler_output.isfinite().all())
    # laws 1 and 2, with the library's own pass for the reference
    assert (pooled - stock.pooler_output).abs().max() < TOLERANCE * stock.pooler_output.abs().max()
    for ours, theirs in zip(states, stock.hidden_states, strict=True):
        assert (ours - theirs).abs().max() < TOLERANCE * theirs.abs().max()
    reference = list(EagerRuntime(engine.model.vision_model).stream(engine.normalize(loaded.picture)))
    assert torch.equal(engine.logit_lens(reference[-1]), stock.pooler_output)


def test_texts_one_and_many(loaded: Loaded) -> None:
    many = loaded.engine.embed_text(TEXTS)
    assert many.shape == (2, loaded.facts.hidden_size)
    one = loaded.engine.embed_text(TEXTS[0])
    assert one.shape == (1, loaded.facts.hidden_size)
    assert (one[0] - many[0]).abs().max() < TOLERANCE * many.abs().max()


def test_every_output_of_the_lens_and_the_same_bits_again(loaded: Loaded) -> None:
    engine, facts = loaded.engine, loaded.facts
    lens, again = (engine.lens([loaded.picture], LABELS, EVERYTHING) for _ in range(2))
    depth, grid = facts.layers + 1, (facts.grid, facts.grid)
    assert lens.cosine.shape == (1, depth, len(LABELS))
    assert lens.patch is not None
    assert lens.patch.cosine.shape == (1, 1, len(LABELS), *grid)
    assert lens.probe_attention is not None
    assert lens.probe_attention.values.shape == (1, 1, facts.attention_heads, *grid)
    assert lens.token_norms is not None
    assert lens.token_norms.values.shape == (1, 1, *grid)
    assert lens.embeddings is not None
    assert lens.embeddings.shape == (1, depth, facts.hidden_size)
    # law 1b was held by the engine; law 5
    assert lens.contribution is not None
    whole = lens.contribution.patches.sum(axis=(3, 4)) + lens.contribution.bias + lens.contribution.mlp
    assert np.abs(whole[:, 0] - lens.cosine[:, -1]).max() < TOLERANCE
    np.testing.assert_array_equal(lens.cosine, again.cosine)
    np.testing.assert_array_equal(lens.patch.cosine, again.patch.cosine if again.patch else None)
    assert lens.activations is not None
    np.testing.assert_array_equal(
        lens.activations.values[:, 0], loaded.activations["token_embeddings"].numpy()
    )
    rescored = engine.rescore(lens.embeddings, LABELS)
    assert np.abs(rescored.cosine - lens.cosine).max() < TOLERANCE
    embedded = engine.embed_images([loaded.picture])
    np.testing.assert_array_equal(embedded.numpy(), lens.pooled)
