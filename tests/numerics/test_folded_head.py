"""The folded head: the same reading as the checkpoint's own, held against it on every batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.catalog import DEMO_MODEL
from engine.errors import LensUnsoundError
from engine.folded import FoldedHead
from engine.readout import MAX_DEVIATION
from engine.residual import read_head
from engine.siglip import SiglipEngine
from tests.numerics.reference import Reference, distance

SCALE_TOLERANCE = 1e-5
LABELS = ["red circle", "blue star", "green heart"]


def test_every_layer_is_read_as_the_formulas_say(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    folded = FoldedHead(engine.model.vision_model)
    pixel_values = engine.normalize(pictures)
    _, activations = engine.forward(pixel_values)
    expected = reference.hidden_states(pixel_values.numpy().astype(np.float64))
    for ours, theirs in zip(activations["hidden_states"], expected, strict=True):
        assert distance(folded.read(ours), reference.pooled(theirs)) < SCALE_TOLERANCE


def test_attention_is_the_library_s_own_head_by_head(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    vision = engine.model.vision_model
    folded = FoldedHead(vision)
    _, activations = engine.forward(engine.normalize(pictures))
    for hidden in activations["hidden_states"]:
        tokens = folded.norm(hidden)
        with torch.no_grad():
            _, own = vision.head.attention(
                vision.head.probe.repeat(len(hidden), 1, 1), tokens, tokens, average_attn_weights=False
            )
        ours = folded.attend(tokens)
        assert distance(ours, own[:, :, 0].double().numpy()) < SCALE_TOLERANCE
        assert (ours.sum(dim=2) - 1).abs().max() < SCALE_TOLERANCE


def test_the_last_layer_is_read_by_the_checkpoint_s_own_head(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    lens = engine.lens(pictures, LABELS)
    _, activations = engine.forward(engine.normalize(pictures))
    own = read_head(engine.model.vision_model, activations["hidden_states"][-1])
    np.testing.assert_array_equal(lens.pooled, own.numpy())
    assert lens.head_deviation is not None
    assert 0 < lens.head_deviation <= MAX_DEVIATION


def test_a_batch_on_which_the_heads_disagree_fails_rather_than_answer_wrongly(
    pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device="cpu")
    monkeypatch.setattr(engine._folded, "_keys", engine._folded._keys * 1.01)
    with pytest.raises(LensUnsoundError, match="no score of this batch can be trusted"):
        engine.lens(pictures, LABELS)
