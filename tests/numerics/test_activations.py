"""Hidden states handed out by a lens, how large they may be, and what else is made of scores on request."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import sizes
from engine.errors import OutputTooLargeError
from engine.lens import Activations, Contribution, Lens, PatchLens, TokenMap
from engine.plan import OUTPUTS, TOKEN_OUTPUTS, LensPlan
from engine.scores import rank_labels
from engine.siglip import SiglipEngine
from tests.numerics.test_patch_lens import many_directions

TOLERANCE = 1e-5
LABELS = ["red circle", "blue star", "green heart"]


def states_of(engine: SiglipEngine, pictures: list[Image.Image]) -> np.ndarray:
    """What `forward` gives: [image, layer, token, width] in float64."""
    _, activations = engine.forward(engine.normalize(pictures))
    return np.stack([state.double().numpy() for state in activations["hidden_states"]], axis=1)


def activations_of(lens: Lens) -> Activations:
    assert lens.activations is not None
    return lens.activations


def test_activations_are_the_hidden_states_of_the_chosen_layers(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    depth = engine.config.layers
    expected = states_of(engine, pictures)
    every = activations_of(engine.lens(pictures, LABELS, ["activations"], activation_layers="all"))
    assert (every.layers, every.tokens, every.grid) == (tuple(range(depth + 1)), None, engine.config.grid)
    assert every.values.dtype == np.float32
    assert every.values.shape == expected.shape
    assert np.abs(every.values - expected).max() < TOLERANCE * np.abs(expected).max()
    # in batches of two, out of order, beside a pooled lens of other layers
    some = engine.lens(
        pictures,
        LABELS,
        ["activations"],
        [1],
        activation_layers=[depth, 0],
        activation_tokens=[5, 0, 5],
        batch_size=2,
    )
    found = activations_of(some)
    assert (some.layers, found.layers, found.tokens) == ((1,), (0, depth), (0, 5))
    chosen = expected[:, [0, depth]][:, :, [0, 5]]
    assert np.abs(found.values - chosen).max() < TOLERANCE * np.abs(expected).max()


def test_activations_are_those_of_the_last_layer_and_all_tokens_unless_told(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    lens = siglip.lens(pictures, LABELS, ["activations"], patch_layers=None)
    found = activations_of(lens)
    assert (found.layers, found.values.shape) == ((siglip.config.layers,), (len(pictures), 1, 9, 32))
    same = siglip.lens(pictures, LABELS, ["activations"], activation_tokens="all")
    np.testing.assert_array_equal(activations_of(same).values, found.values)
    assert [getattr(lens, output) for output in TOKEN_OUTPUTS] == [None] * len(TOKEN_OUTPUTS)
    assert siglip.lens(pictures, LABELS).activations is None


def test_the_head_reads_of_activations_what_the_lens_says(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    lens = siglip.lens(pictures, LABELS, ["activations", "embeddings"], activation_layers="all")
    assert lens.embeddings is not None
    for layer in activations_of(lens).layers:
        read = siglip.logit_lens(torch.from_numpy(activations_of(lens).values[:, layer])).numpy()
        assert np.abs(read - lens.embeddings[:, layer]).max() < TOLERANCE * np.abs(read).max()


def test_bfloat16_is_widened_and_nothing_else(siglip_folder: Path, pictures: list[Image.Image]) -> None:
    half = SiglipEngine(siglip_folder, device="cpu", dtype="bfloat16")
    found = activations_of(half.lens(pictures, LABELS, ["activations"], activation_layers="all")).values
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, states_of(half, pictures).astype(np.float32))


def test_activations_do_not_pile_up_without_bound(
    siglip: SiglipEngine, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "ACTIVATION_BYTES", 3 * 4 * 9 * 32 * 4)
    read = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal read
        while True:
            read += 1
            yield pictures[0]

    with pytest.raises(OutputTooLargeError, match="fewer pictures a call, or fewer `activation_layers`"):
        siglip.lens(endless(), LABELS, ["activations"], activation_layers="all", batch_size=2)
    assert read <= 4, "it stops when the budget is spent"
    normalized: list[object] = []
    monkeypatch.setattr(siglip, "normalize", normalized.append)
    with pytest.raises(OutputTooLargeError, match="5 pictures"):
        siglip.lens(pictures, LABELS, ["activations"], activation_layers="all")
    assert not normalized, "a list is refused before anything is computed"
    monkeypatch.undo()
    monkeypatch.setattr(sizes, "ACTIVATION_BYTES", 5 * 9 * 32 * 4)
    assert activations_of(siglip.lens(pictures, LABELS, ["activations"])).values.nbytes == 5 * 9 * 32 * 4


@pytest.mark.parametrize("labels", [3, 150])
def test_outputs_are_as_large_as_was_said_before(
    engine: SiglipEngine, pictures: list[Image.Image], labels: int
) -> None:
    lens = engine.lens(
        pictures,
        many_directions(engine, labels),
        OUTPUTS,
        layers=[1, engine.config.layers],
        patch_layers={"every": 2},
        activation_layers=[0, 1],
        activation_tokens=[0, 3, 4],
    )
    assert lens.patch is not None
    plan = LensPlan(
        depth=engine.config.layers,
        grid=engine.config.grid,
        layers=lens.layers,
        patch_layers=lens.patch.layers,
        patch_method="head",
        outputs=frozenset(OUTPUTS),
        activation_layers=(0, 1),
        activation_tokens=(0, 3, 4),
    )
    quoted = sizes.output_bytes(
        plan,
        width=engine.config.hidden_size,
        heads=engine.model.vision_model.head.attention.num_heads,
        kept=lens.kept.shape[1],
    )
    found = {name: size_of(getattr(lens, name)) // len(pictures) for name in OUTPUTS if name != "pooled"}
    assert quoted == found
    nothing = dataclasses.replace(
        plan, outputs=frozenset({"pooled"}), patch_layers=None, activation_layers=None
    )
    assert sizes.output_bytes(nothing, width=32, heads=4, kept=3) == {}


def size_of(output: PatchLens | TokenMap | Contribution | Activations | np.ndarray) -> int:
    if isinstance(output, np.ndarray):
        return output.nbytes
    values = (getattr(output, field.name) for field in dataclasses.fields(output))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def test_every_output_of_a_token_is_one_of_the_outputs() -> None:
    assert set(TOKEN_OUTPUTS) < set(OUTPUTS)


def test_ranks_count_the_labels_before_each_other(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    lens = engine.lens(pictures, LABELS, layers=[0, engine.config.layers])
    order = np.argsort(-lens.cosine, axis=2, kind="stable")
    places = np.argsort(order, axis=2) + 1
    np.testing.assert_array_equal(lens.rank, np.take_along_axis(places, lens.kept[:, None], axis=2))
    np.testing.assert_array_equal(lens.rank.argmin(axis=2), lens.top)


def test_of_many_labels_the_kept_ones_are_ranked_among_all() -> None:
    cosine = np.random.default_rng(1).permuted(np.tile(np.arange(150) / 150, (2, 3, 1)), axis=2)
    cosine = cosine.astype(np.float32)
    cosine[0, 0, :] = 0.5
    cosine[1, 1, 7] = np.nan
    kept = np.array([[0, 7, 149], [7, 3, 1]])
    ranks = rank_labels(cosine, kept)
    assert ranks[0, 0].tolist() == [1, 8, 150], "a tie goes to the lower index"
    assert ranks[1, 1, 0] == 0
    expected = 1 + (cosine[1, 2] > cosine[1, 2, 3]).sum()
    assert ranks[1, 2, 1] == expected


def test_softmax_and_uncalibrated_logits_are_given_on_request_only(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    plain = engine.lens(pictures, LABELS)
    assert (plain.final_softmax, plain.uncalibrated) == (None, None)
    lens = engine.lens(pictures, LABELS, layers=[0, engine.config.layers], softmax=True, uncalibrated=True)
    scale, bias = engine.config.logit_scale, engine.config.logit_bias
    logit = scale * lens.cosine.astype(np.float64) + bias
    shares = np.exp(logit - logit.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    lower = lens.uncalibrated
    assert lower is not None
    assert lower.softmax is not None
    assert lens.final_softmax is not None
    assert np.abs(lower.logit - logit).max() < TOLERANCE * np.abs(logit).max()
    assert np.abs(lower.match_probability - 1 / (1 + np.exp(-logit))).max() < 1e-4
    assert np.abs(lower.softmax - shares).max() < 1e-4
    np.testing.assert_array_equal(lower.softmax[:, -1], lens.final_softmax)
    np.testing.assert_array_equal(lower.logit[:, -1], lens.final_logit)
    without = engine.lens(pictures, LABELS, uncalibrated=True)
    assert without.uncalibrated is not None
    assert (without.final_softmax, without.uncalibrated.softmax) == (None, None)


def test_kept_embeddings_give_the_same_scores_on_request(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    lens = engine.lens(pictures, LABELS, ["embeddings"], softmax=True, uncalibrated=True)
    again = engine.rescore(lens.embeddings, LABELS, softmax=True, uncalibrated=True)
    assert lens.final_softmax is not None
    assert lens.uncalibrated is not None
    assert again.final_softmax is not None
    assert again.uncalibrated is not None
    np.testing.assert_allclose(again.final_softmax, lens.final_softmax, atol=1e-4)
    np.testing.assert_allclose(again.uncalibrated.logit, lens.uncalibrated.logit, atol=1e-4)
    np.testing.assert_array_equal(again.rank, lens.rank)
