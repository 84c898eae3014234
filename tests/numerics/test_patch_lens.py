"""The patch lens: each token alone through the checkpoint's own head, on the grid, for the kept labels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import readout
from engine.layers import LayerChoice
from engine.lens import LabelDirections, Lens, PatchLens, keep_labels
from engine.plan import LensPlan
from engine.readout import most_images
from engine.residual import read_patches
from engine.siglip import SiglipEngine
from engine.text import tokenize
from tests.numerics.checkpoints import COLOURS, SHAPES
from tests.numerics.reference import Reference, distance, gelu_exact, unit

SCALE_TOLERANCE = 1e-5
LABELS = ["red circle", "blue star", "green heart"]
PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
BOTH = ("pooled", "patch")


def patch_of(lens: Lens) -> PatchLens:
    assert lens.patch is not None
    return lens.patch


def many_directions(engine: SiglipEngine, count: int) -> LabelDirections:
    """More labels than the small tokenizers can tell apart, as vectors."""
    vectors = np.random.default_rng(5).normal(size=(count, engine.config.hidden_size))
    names = tuple(f"label {index}" for index in range(count))
    return LabelDirections(
        names=names,
        prompts=names,
        unit=unit(vectors).astype(np.float32),
        truncated=np.zeros(count, dtype=bool),
        checkpoint_sha256=engine._checkpoint_sha256,
    )


def test_a_patch_is_what_the_library_s_head_reads_in_a_lone_token(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    vision = engine.model.vision_model
    _, activations = engine.forward(engine.normalize(pictures))
    for hidden in activations["hidden_states"]:
        with torch.no_grad():
            alone = vision.head(vision.post_layernorm(hidden).reshape(-1, 1, hidden.shape[-1]))
        ours = read_patches(vision, hidden)
        assert ours.shape == hidden.shape
        assert distance(ours, alone.reshape(hidden.shape).double().numpy()) < SCALE_TOLERANCE


def test_patches_of_every_layer_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    pixel_values = engine.normalize(pictures)
    _, activations = engine.forward(pixel_values)
    expected = reference.hidden_states(pixel_values.numpy().astype(np.float64))
    for ours, theirs in zip(activations["hidden_states"], expected, strict=True):
        read = read_patches(engine.model.vision_model, ours)
        assert distance(read, reference.patches(theirs)) < SCALE_TOLERANCE


def test_the_tolerance_notices_exact_gelu_in_the_head_alone(
    engine: SiglipEngine, folder: Path, pictures: list[Image.Image]
) -> None:
    wrong = Reference(folder, activation=gelu_exact)
    _, activations = engine.forward(engine.normalize(pictures))
    for hidden in activations["hidden_states"]:
        read = read_patches(engine.model.vision_model, hidden)
        assert distance(read, wrong.patches(hidden.double().numpy())) > SCALE_TOLERANCE


def test_patch_scores_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    patch = patch_of(engine.lens(pictures, LABELS, BOTH, patch_layers="all", template="{}", batch_size=2))
    text = unit(reference.text_embedding(tokenize(engine.processor.tokenizer, LABELS)[0].numpy()))
    states = reference.hidden_states(engine.normalize(pictures).numpy().astype(np.float64))
    rows, cols = engine.config.grid
    for index, state in enumerate(states):
        # [image, patch, label]: patches go row by row from the top left
        expected = (unit(reference.patches(state)) @ text.T).reshape(len(pictures), rows, cols, len(LABELS))
        assert np.abs(patch.cosine[:, index] - expected.transpose(0, 3, 1, 2)).max() < SCALE_TOLERANCE


def test_value_scores_agree_with_the_formulas(
    engine: SiglipEngine, reference: Reference, pictures: list[Image.Image]
) -> None:
    lens = engine.lens(pictures, LABELS, BOTH, patch_layers="all", patch_method="value", template="{}")
    patch = patch_of(lens)
    assert patch.method == "value"
    text = unit(reference.text_embedding(tokenize(engine.processor.tokenizer, LABELS)[0].numpy()))
    states = reference.hidden_states(engine.normalize(pictures).numpy().astype(np.float64))
    rows, cols = engine.config.grid
    for index, state in enumerate(states):
        expected = (unit(reference.values(state)) @ text.T).reshape(len(pictures), rows, cols, len(LABELS))
        assert np.abs(patch.cosine[:, index] - expected.transpose(0, 3, 1, 2)).max() < SCALE_TOLERANCE


@pytest.mark.parametrize(
    ("asked", "layers"), [(None, (3,)), ("all", (0, 1, 2, 3)), ({"every": 2}, (2, 3)), ([1, 0, 1], (0, 1))]
)
def test_the_last_layer_is_the_default_and_others_come_on_request(
    siglip: SiglipEngine, pictures: list[Image.Image], asked: LayerChoice | None, layers: tuple[int, ...]
) -> None:
    everything = patch_of(siglip.lens(pictures, LABELS, BOTH, patch_layers="all"))
    patch = patch_of(siglip.lens(pictures, LABELS, BOTH, patch_layers=asked))
    assert (patch.layers, patch.grid, patch.method) == (layers, (3, 3), "head")
    assert patch.cosine.shape == (5, len(layers), 3, 3, 3)
    assert patch.cosine.dtype == np.float32
    assert np.array_equal(patch.cosine, everything.cosine[:, list(layers)])


@pytest.mark.parametrize("outputs", [BOTH, ("patch",), ["patch", "pooled"]])
def test_the_pooled_lens_is_there_and_the_same_beside_the_patch_lens(
    engine: SiglipEngine, pictures: list[Image.Image], outputs: Sequence[str]
) -> None:
    without = engine.lens(pictures, LABELS, layers=[1])
    beside = engine.lens(pictures, LABELS, outputs, layers=[1], patch_layers=[0])
    assert without.patch is None
    assert patch_of(beside).layers == (0,)
    for field in dataclasses.fields(Lens):
        if field.name != "patch":
            assert np.array_equal(getattr(beside, field.name), getattr(without, field.name)), field.name


@pytest.mark.parametrize("labels", [3, 150])
def test_an_image_s_maps_do_not_depend_on_its_batch(
    engine: SiglipEngine, pictures: list[Image.Image], labels: int
) -> None:
    directions = many_directions(engine, labels)
    together = engine.lens(pictures, directions, BOTH, patch_layers="all")
    for index, picture in enumerate(pictures):
        alone = engine.lens([picture], directions, BOTH, patch_layers="all")
        assert np.array_equal(alone.kept[0], together.kept[index])
        difference = patch_of(alone).cosine[0] - patch_of(together).cosine[index]
        assert np.abs(difference).max() < SCALE_TOLERANCE


def test_same_input_gives_the_same_maps_bit_for_bit(
    engine: SiglipEngine, pictures: list[Image.Image]
) -> None:
    once, again = (engine.lens(pictures, LABELS, BOTH, patch_layers="all") for _ in range(2))
    assert np.array_equal(patch_of(once).cosine, patch_of(again).cosine)


def test_up_to_a_hundred_labels_are_kept_in_order_and_of_more_the_best_five() -> None:
    scores = np.random.default_rng(2).permuted(np.tile(np.arange(101) / 101, (2, 1)), axis=1)
    final = scores.astype(np.float32)
    assert keep_labels(final[:, :100]).tolist() == [list(range(100))] * 2
    best = keep_labels(final)
    assert [[round(float(final[row, label]) * 101) for label in best[row]] for row in (0, 1)] == [
        [100, 99, 98, 97, 96]
    ] * 2


def test_of_labels_that_tie_the_first_are_kept_and_nan_comes_last() -> None:
    final = np.zeros((2, 101), dtype=np.float32)
    final[0, [7, 50]] = 0.5
    final[1] = np.nan
    final[1, 60] = -1.0
    assert keep_labels(final).tolist() == [[7, 50, 0, 1, 2], [60, 0, 1, 2, 3]]


def test_maps_follow_each_image_s_own_kept_labels(engine: SiglipEngine, pictures: list[Image.Image]) -> None:
    directions = many_directions(engine, 150)
    lens = engine.lens(pictures, directions, BOTH, layers=[0], patch_layers=[0, 1], batch_size=2)
    best = np.argsort(-lens.final_logit, axis=1, kind="stable")[:, :5]
    assert np.array_equal(lens.kept, best)
    assert len({tuple(row) for row in lens.kept.tolist()}) > 1
    _, activations = engine.forward(engine.normalize(pictures))
    for position, layer in enumerate(patch_of(lens).layers):
        read = read_patches(engine.model.vision_model, activations["hidden_states"][layer])
        every = unit(read.double().numpy()) @ directions.unit.T.astype(np.float64)
        expected = np.take_along_axis(every, lens.kept[:, None, :].astype(np.int64), axis=2)
        ours = patch_of(lens).cosine[:, position].reshape(len(pictures), 5, -1)
        assert np.abs(ours.transpose(0, 2, 1) - expected).max() < SCALE_TOLERANCE


@pytest.mark.parametrize(
    ("layers", "patches", "width", "images", "on_a_gpu"),
    [
        (1, 729, 1152, 159, 1024),
        (28, 729, 1152, 5, 32),
        (1, 196, 768, 891, 4096),
        (28, 4096, 4096, 1, 2),
        (28, 16384, 4096, 1, 1),
    ],
)
def test_a_batch_holds_as_many_pictures_as_there_is_room_for_their_patches(
    layers: int, patches: int, width: int, images: int, on_a_gpu: int
) -> None:
    plan = LensPlan(
        depth=27,
        grid=(1, patches),
        layers=(27,),
        patch_layers=tuple(range(layers)),
        patch_method="head",
    )
    assert most_images(plan, width) == images
    assert most_images(plan, width, "cuda") == on_a_gpu
    assert most_images(dataclasses.replace(plan, patch_layers=None), width) is None


@pytest.mark.parametrize(("outputs", "largest"), [(("pooled",), 5), (BOTH, 2)])
def test_patches_make_a_batch_smaller_and_change_nothing_else(
    siglip: SiglipEngine,
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    outputs: Sequence[str],
    largest: int,
) -> None:
    expected = patch_of(siglip.lens(pictures, LABELS, BOTH, patch_layers="all")).cosine
    sizes: list[int] = []
    normalize = siglip.normalize

    def watch(images: Sequence[Image.Image]) -> torch.Tensor:
        sizes.append(len(images))
        return normalize(images)

    monkeypatch.setattr(siglip, "normalize", watch)
    # room for four layers of two pictures, not of three
    monkeypatch.setattr(readout, "PATCH_BYTES", 2 * 4 * 9 * 32 * 4 + 1)
    lens = siglip.lens(pictures, LABELS, outputs, patch_layers="all" if "patch" in outputs else None)
    assert max(sizes) == largest
    assert sum(sizes) == len(pictures)
    if lens.patch is not None:
        assert np.abs(lens.patch.cosine - expected).max() < SCALE_TOLERANCE


def test_what_is_not_a_number_stays_visible_where_it_is(
    siglip_folder: Path, pictures: list[Image.Image]
) -> None:
    engine = SiglipEngine(siglip_folder, device="cpu")
    with torch.no_grad():
        engine.model.vision_model.embeddings.position_embedding.weight[4] = torch.nan
    lens = engine.lens(pictures, LABELS, BOTH, patch_layers="all")
    undefined = np.isnan(patch_of(lens).cosine)
    # before the first block one patch is torn, after it attention has carried it everywhere
    assert undefined[:, 0, :, 1, 1].all()
    assert undefined[:, 0].sum() == len(pictures) * len(LABELS)
    assert undefined[:, 1:].all()
    assert np.isnan(lens.cosine).all()


def test_the_best_patch_of_a_drawn_object_lies_in_its_box(
    demo: SiglipEngine,
    scenes: list[tuple[Image.Image, str]],
    objects: list[tuple[int, str, tuple[int, int, int, int]]],
) -> None:
    """29 of the 30 objects when this was written; the other is an orange heart beside an orange circle."""
    patch = patch_of(demo.lens([picture for picture, _ in scenes], PAIRS, BOTH))
    rows, cols = patch.grid
    hits, boxed = 0, 0.0
    for index, name, (left, top, right, bottom) in objects:
        width, height = scenes[index][0].size
        best = int(patch.cosine[index, -1, PAIRS.index(name)].argmax())
        x, y = (best % cols + 0.5) * width / cols, (best // cols + 0.5) * height / rows
        hits += left <= x <= right and top <= y <= bottom
        boxed += (right - left) * (bottom - top) / (width * height)
    assert len(objects) == 30
    assert hits >= 27
    # by chance it would be the share of the picture that the boxes cover
    assert boxed / len(objects) < 0.2
