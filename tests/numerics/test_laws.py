"""The engine's laws: the lens' last layer is the model's own answer, and both are SigLIP's formulas."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.siglip import SiglipEngine
from engine.text import tokenize
from tests.numerics.reference import Reference, distance, gelu_exact, unit

SCALE_TOLERANCE = 1e-5
TEXTS = ["This is a photo of a red circle.", "blue star", "Ring!", "a green heart and a pink arrow"]


def test_last_layer_lens_is_the_pooler_output_bit_for_bit(
    reference_engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    engine = reference_engine
    pixel_values = engine.normalize(pictures)
    pooled, activations = engine.forward(pixel_values)
    with torch.no_grad():
        stock = engine.model.vision_model(pixel_values=pixel_values).pooler_output
    assert torch.equal(engine.logit_lens(activations["hidden_states"][-1]), stock)
    assert torch.equal(pooled, stock)
    assert engine.provenance["last_layer_self_check"] == 0.0


def test_hidden_states_are_the_library_s_own(
    reference_engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    engine = reference_engine
    pixel_values = engine.normalize(pictures)
    _, activations = engine.forward(pixel_values)
    with torch.no_grad():
        stock = engine.model.vision_model(pixel_values=pixel_values, output_hidden_states=True).hidden_states
    assert len(activations["hidden_states"]) == engine.config.layers + 1 == len(stock)
    assert all(torch.equal(a, b) for a, b in zip(activations["hidden_states"], stock, strict=True))
    assert activations["token_embeddings"] is activations["hidden_states"][-1]
    shape = (len(pictures), engine.config.patch_tokens, engine.config.hidden_size)
    assert {tuple(state.shape) for state in activations["hidden_states"]} == {shape}


def test_every_layer_agrees_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    pixel_values = engine.normalize(pictures)
    _, activations = engine.forward(pixel_values)
    expected = reference.hidden_states(pixel_values.numpy().astype(np.float64))
    for ours, theirs in zip(activations["hidden_states"], expected, strict=True):
        assert distance(ours, theirs) < SCALE_TOLERANCE
        assert distance(engine.logit_lens(ours), reference.pooled(theirs)) < SCALE_TOLERANCE


def test_image_and_text_embeddings_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    pixels = engine.normalize(pictures).numpy().astype(np.float64)
    assert (
        distance(engine.embed_images(pictures), reference.pooled(reference.hidden_states(pixels)[-1])) < 1e-5
    )
    ids = tokenize(engine.processor.tokenizer, TEXTS)[0].numpy()
    assert distance(engine.embed_text(TEXTS), reference.text_embedding(ids)) < SCALE_TOLERANCE


def test_lens_scores_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    labels = ["red circle", "blue star", "green heart"]
    lens = engine.lens(pictures, labels, batch_size=2)
    prompts = [f"This is a photo of {label}." for label in labels]
    ids = tokenize(engine.processor.tokenizer, prompts)[0].numpy()
    text = unit(reference.text_embedding(ids))
    states = reference.hidden_states(engine.normalize(pictures).numpy().astype(np.float64))
    expected = np.stack([unit(reference.pooled(state)) @ text.T for state in states], axis=1)
    assert np.abs(lens.cosine - expected).max() < SCALE_TOLERANCE
    logit = np.exp(reference.weights["logit_scale"]) * expected[:, -1] + reference.weights["logit_bias"]
    assert np.abs(lens.final_logit - logit).max() < SCALE_TOLERANCE * engine.config.logit_scale
    assert np.abs(lens.final_match_probability - 1.0 / (1.0 + np.exp(-logit))).max() < 1e-3


def test_the_tolerance_notices_exact_gelu(
    engine: SiglipEngine, folder: Path, pictures: list[Image.Image]
) -> None:
    wrong = Reference(folder, activation=gelu_exact)
    pixels = engine.normalize(pictures).numpy().astype(np.float64)
    ids = tokenize(engine.processor.tokenizer, TEXTS)[0].numpy()
    assert distance(engine.embed_images(pictures), wrong.pooled(wrong.hidden_states(pixels)[-1])) > 1e-5
    assert distance(engine.embed_text(TEXTS), wrong.text_embedding(ids)) > SCALE_TOLERANCE


def test_same_input_gives_the_same_bits(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    assert torch.equal(engine.embed_images(pictures), engine.embed_images(pictures))
    assert torch.equal(engine.embed_text(TEXTS), engine.embed_text(TEXTS))
    once, again = (engine.lens(pictures, ["red circle", "blue star"]) for _ in range(2))
    assert np.array_equal(once.cosine, again.cosine)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batch_size_changes_nothing_beyond_rounding(
    engine: SiglipEngine, pictures: list[Image.Image], batch_size: int
) -> None:
    whole = engine.embed_images(pictures)
    parts = engine.embed_images(pictures, batch_size=batch_size)
    assert distance(parts, whole.double().numpy()) < SCALE_TOLERANCE
    labels = ["red circle", "blue star"]
    difference = (
        engine.lens(pictures, labels).cosine - engine.lens(pictures, labels, batch_size=batch_size).cosine
    )
    assert np.abs(difference).max() < SCALE_TOLERANCE


def test_one_text_equals_the_same_text_among_many(engine: SiglipEngine) -> None:
    many = engine.embed_text(TEXTS)
    assert many.shape == (len(TEXTS), engine.config.hidden_size)
    assert engine.embed_text(TEXTS[0]).shape == (1, engine.config.hidden_size)
    alone = torch.cat([engine.embed_text(text) for text in TEXTS])
    assert distance(alone, many.double().numpy()) < SCALE_TOLERANCE


def test_images_may_come_from_a_generator_and_are_read_batch_by_batch(
    engine: SiglipEngine, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    normalize = engine.normalize

    def watch(images: Sequence[Image.Image]) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(images))
        return normalize(images)

    monkeypatch.setattr(engine, "normalize", watch)
    embeddings = engine.embed_images((picture for picture in pictures * 4), batch_size=3)
    assert embeddings.shape == (20, engine.config.hidden_size)
    assert largest == 3
    assert engine.embed_images([]).shape == (0, engine.config.hidden_size)
