"""What is read of each token: attention, shares of the score, lengths; by the formulas, and complete."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from engine.lens import Contribution, TokenMap
from engine.siglip import SiglipEngine
from engine.text import tokenize
from tests.numerics.reference import Array, Reference, distance, unit

TOLERANCE = 1e-5
LABELS = ["red circle", "blue star", "green heart"]


@pytest.fixture
def states(engine: SiglipEngine, reference: Reference, pictures: Sequence[Image.Image]) -> list[Array]:
    return reference.hidden_states(engine.normalize(pictures).numpy().astype(np.float64))


def flat(values: np.ndarray) -> np.ndarray:
    """Tokens in one row again."""
    return values.reshape(*values.shape[:-2], -1)


def test_attention_agrees_with_the_formulas_and_is_whole(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image], states: list[Array]
) -> None:
    lens = engine.lens(pictures, LABELS, ["probe_attention"], patch_layers="all", batch_size=2)
    found = lens.probe_attention
    assert isinstance(found, TokenMap)
    assert (found.layers, found.grid) == (tuple(range(engine.config.layers + 1)), engine.config.grid)
    assert np.abs(flat(found.values).sum(axis=-1) - 1).max() < TOLERANCE
    for layer, state in enumerate(states):
        assert distance(flat(found.values[:, layer]), reference.attention(state)) < TOLERANCE
    assert lens.patch is None


def test_contributions_are_complete(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    lens = engine.lens(pictures, LABELS, ["contribution"], patch_layers="all", batch_size=2)
    found = lens.contribution
    assert isinstance(found, Contribution)
    whole = flat(found.patches).sum(axis=-1) + found.bias + found.mlp
    assert np.abs(whole - lens.cosine).max() < TOLERANCE
    assert found.mlp_share.shape == found.mlp.shape
    assert 0 < found.mlp_share.min() <= found.mlp_share.max() < 1


def test_contributions_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image], states: list[Array]
) -> None:
    found = engine.lens(pictures, LABELS, ["contribution"], patch_layers="all", template="{}").contribution
    assert found is not None
    text = unit(reference.text_embedding(tokenize(engine.processor.tokenizer, LABELS)[0].numpy()))
    for layer, state in enumerate(states):
        expected = reference.shares(state) @ text.T
        assert np.abs(flat(found.patches[:, layer]) - expected.transpose(0, 2, 1)).max() < TOLERANCE


def test_token_norms_are_those_of_the_residual_stream(
    engine: SiglipEngine, pictures: list[Image.Image], states: list[Array]
) -> None:
    found = engine.lens(pictures, LABELS, ["token_norms"], patch_layers="all").token_norms
    assert found is not None
    for layer, state in enumerate(states):
        assert distance(flat(found.values[:, layer]), np.linalg.norm(state, axis=-1)) < TOLERANCE


def test_embeddings_are_what_the_head_reads_of_the_chosen_layers(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image], states: list[Array]
) -> None:
    lens = engine.lens(pictures, LABELS, ["embeddings"], layers=[0, engine.config.layers], batch_size=2)
    assert lens.embeddings is not None
    assert lens.embeddings.shape == (len(pictures), 2, engine.config.hidden_size)
    assert distance(lens.embeddings[:, 0], reference.pooled(states[0])) < TOLERANCE
    np.testing.assert_array_equal(lens.embeddings[:, 1], lens.pooled)


def test_everything_at_once_is_what_each_is_alone(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    outputs = ["patch", "probe_attention", "contribution", "token_norms", "embeddings"]
    whole = engine.lens(pictures, LABELS, outputs)
    for output in outputs:
        alone = engine.lens(pictures, LABELS, [output])
        ours, theirs = getattr(whole, output), getattr(alone, output)
        for field in ("cosine", "values", "patches", "bias", "mlp"):
            if hasattr(ours, field):
                np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
        assert [other for other in outputs if getattr(alone, other) is not None] == [output]


def test_other_labels_need_no_pass(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    others = ["a pink arrow", "red circle"]
    kept = engine.lens(pictures, LABELS, ["embeddings"]).embeddings
    assert kept is not None
    ours, theirs = engine.rescore(kept, others), engine.lens(pictures, others)
    for field in ("cosine", "final_logit", "final_match_probability", "pooled", "top_margin"):
        assert distance(getattr(ours, field), getattr(theirs, field).astype(np.float64)) < TOLERANCE, field
    for field in ("top", "final_top", "settle_layer", "kept"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    assert ours.head_deviation is None
    last = engine.rescore(kept[:, -1:], others, layers=[engine.config.layers])
    np.testing.assert_allclose(last.cosine[:, 0], ours.cosine[:, -1], atol=TOLERANCE)
