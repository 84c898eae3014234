"""Bad input gives the engine's own error, which names the argument: never a torch traceback."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.arguments import memory_errors
from engine.catalog import DEMO_MODEL
from engine.errors import EngineError, InvalidArgumentError, OutOfMemoryError
from engine.siglip import SiglipEngine

Call = Callable[[Any], Any]
PICTURE = Image.new("RGB", (50, 50), "red")
LABELS = ["red circle", "blue star"]

CALLS: list[tuple[str, Call]] = [
    ("image", lambda e: e.normalize("picture.jpg")),
    ("image", lambda e: e.normalize(None)),
    ("image", lambda e: e.normalize([PICTURE, 3])),
    ("image", lambda e: e.normalize(Image.new("RGB", (0, 4)))),
    ("image", lambda e: e.normalize(torch.zeros((48, 48, 3), dtype=torch.uint8))),
    ("image", lambda e: e.normalize(torch.zeros((3, 48, 48), dtype=torch.int32))),
    ("image", lambda e: e.normalize(torch.full((3, 48, 48), 255.0))),
    ("image", lambda e: e.normalize(torch.full((3, 48, 48), float("nan")))),
    ("pixel_values", lambda e: e.forward(None)),
    ("pixel_values", lambda e: e.forward(torch.zeros((3, 48, 48)))),
    ("pixel_values", lambda e: e.forward(torch.zeros((1, 3, 48, 47)))),
    ("pixel_values", lambda e: e.forward(torch.zeros((0, 3, 48, 48)))),
    ("pixel_values", lambda e: e.forward(torch.zeros((1, 3, 48, 48), dtype=torch.uint8))),
    ("pixel_values", lambda e: e.forward(torch.full((1, 3, 48, 48), float("inf")))),
    ("hidden", lambda e: e.logit_lens([[0.0]])),
    ("hidden", lambda e: e.logit_lens(torch.zeros(32))),
    ("hidden", lambda e: e.logit_lens(torch.zeros((9, 31)))),
    ("hidden", lambda e: e.logit_lens(torch.zeros((0, 32)))),
    ("hidden", lambda e: e.logit_lens(torch.zeros((9, 32), dtype=torch.int64))),
    ("texts", lambda e: e.embed_text(5)),
    ("texts", lambda e: e.embed_text(["a", 5])),
    ("images", lambda e: e.embed_images("folder")),
    ("images", lambda e: e.embed_images(7)),
    ("batch_size", lambda e: e.embed_images([PICTURE], batch_size=0)),
    ("batch_size", lambda e: e.lens([PICTURE], LABELS, batch_size=1.5)),
    ("labels", lambda e: e.embed_labels("cat")),
    ("labels", lambda e: e.embed_labels(["cat", 3])),
    ("template", lambda e: e.embed_labels(LABELS, "a photo")),
    ("template", lambda e: e.embed_labels(LABELS, "{} and {}")),
    ("template", lambda e: e.embed_labels(LABELS, None)),
    ("images", lambda e: e.lens([], LABELS)),
    ("layers", lambda e: e.lens([PICTURE], LABELS, layers=[4])),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=("value",))),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=("patch", "patch"))),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=(["patch"],))),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=b"patch")),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs={"patch"})),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=None)),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs="pooled")),
    ("outputs", lambda e: e.lens([PICTURE], LABELS, outputs=())),
    ("patch_layers", lambda e: e.lens([PICTURE], LABELS, patch_layers=[3])),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=[4])),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=[])),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=[[1]])),
    ("patch_layers", lambda e: patch_lens(e, patch_layers="last")),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=b"\x01")),
    ("patch_layers", lambda e: patch_lens(e, patch_layers={1})),
    ("patch_layers", lambda e: patch_lens(e, patch_layers={"every": []})),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=np.array([1, 2]))),
    ("patch_layers", lambda e: patch_lens(e, patch_layers=torch.tensor([1, 2]))),
    ("layers", lambda e: patch_lens(e, layers=[4])),
    ("patch_method", lambda e: e.lens([PICTURE], LABELS, patch_method="mean")),
    ("patch_method", lambda e: patch_lens(e, patch_method=["head"])),
    ("batch_size", lambda e: patch_lens(e, batch_size=1.5)),
    ("embeddings", lambda e: e.rescore([[1.0]], LABELS)),
    ("embeddings", lambda e: e.rescore(np.ones((1, 1, 32), np.float32), LABELS)),
    ("embeddings", lambda e: e.rescore(np.ones((1, 4, 32), np.int64), LABELS)),
    ("embeddings", lambda e: e.rescore(np.full((1, 4, 32), np.nan), LABELS)),
    ("embeddings", lambda e: e.rescore(np.ones((0, 4, 32)), LABELS)),
    ("embeddings", lambda e: e.rescore(np.full((1, 4, 32), 1e300), LABELS)),
    ("embeddings", lambda e: e.rescore(np.zeros((1, 4, 32)), LABELS)),
    ("layers", lambda e: e.rescore(np.ones((1, 1, 32)), LABELS, layers=[0])),
    ("images", lambda e: e.lens([], LABELS, outputs=("patch",))),
    ("activation_layers", lambda e: e.lens([PICTURE], LABELS, activation_layers=[1])),
    ("activation_layers", lambda e: e.lens([PICTURE], LABELS, outputs=("patch",), activation_layers="all")),
    ("activation_layers", lambda e: activations(e, activation_layers=[4])),
    ("activation_layers", lambda e: activations(e, activation_layers=[])),
    ("activation_tokens", lambda e: e.lens([PICTURE], LABELS, activation_tokens="all")),
    ("activation_tokens", lambda e: activations(e, activation_tokens=[9])),
    ("activation_tokens", lambda e: activations(e, activation_tokens=[-1])),
    ("activation_tokens", lambda e: activations(e, activation_tokens=[])),
    ("activation_tokens", lambda e: activations(e, activation_tokens=[True])),
    ("activation_tokens", lambda e: activations(e, activation_tokens="first")),
    ("activation_tokens", lambda e: activations(e, activation_tokens=0)),
    ("activation_tokens", lambda e: activations(e, activation_tokens={"every": 2})),
    ("activation_tokens", lambda e: activations(e, activation_tokens=np.array([1]))),
    ("softmax", lambda e: e.lens([PICTURE], LABELS, softmax=1)),
    ("uncalibrated", lambda e: e.lens([PICTURE], LABELS, uncalibrated=None)),
    ("softmax", lambda e: e.rescore(np.ones((1, 4, 32), np.float32), LABELS, softmax="yes")),
]


def patch_lens(engine: SiglipEngine, **settings: Any) -> Any:
    return engine.lens([PICTURE], LABELS, outputs=("pooled", "patch"), **settings)


def activations(engine: SiglipEngine, **settings: Any) -> Any:
    return engine.lens([PICTURE], LABELS, outputs=("activations",), **settings)


@pytest.mark.parametrize(("argument", "call"), CALLS)
def test_unusable_arguments_are_refused_by_name(siglip: SiglipEngine, argument: str, call: Call) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        call(siglip)
    assert refusal.value.argument == argument
    assert str(refusal.value).startswith(f"{argument}: ")
    assert refusal.value.code == "invalid-argument"


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("runtime", "onnx", "torch"),
        ("dtype", "float16", "bfloat16"),
        ("dtype", torch.float32, "float32"),
        ("device", "tpu", "cuda"),
        ("device", "meta", "cpu"),
        ("device", "cuda:99", "not present"),
        ("device", 1.5, "cpu"),
        ("revision", "main", "folder"),
        ("model_name", "", "name"),
        ("model_name", 7, "name"),
    ],
)
def test_unusable_settings_are_refused_before_loading(argument: str, value: Any, says: str) -> None:
    settings = {"model_name": DEMO_MODEL, "device": "cpu", argument: value}
    with pytest.raises(InvalidArgumentError, match=says) as refusal:
        SiglipEngine(**settings)
    assert refusal.value.argument == argument


def test_every_error_has_a_code_of_its_own() -> None:
    def tree(kind: type[EngineError]) -> list[type[EngineError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]

    codes = [kind.code for kind in tree(EngineError)]
    assert len(codes) == len(set(codes))
    assert all(kind.__doc__ for kind in tree(EngineError))


def test_hidden_of_one_image_gives_one_vector(siglip: SiglipEngine) -> None:
    _, activations = siglip.forward(siglip.normalize([PICTURE, PICTURE.rotate(90)]))
    hidden = activations["hidden_states"][1]
    assert siglip.logit_lens(hidden).shape == (2, 32)
    assert siglip.logit_lens(hidden[0]).shape == (32,)
    assert torch.allclose(siglip.logit_lens(hidden[0]), siglip.logit_lens(hidden)[0], atol=1e-5)
    # One patch alone through the head is an input like any other: the patch lens is built on it.
    assert siglip.logit_lens(hidden[:, :1]).shape == (2, 32)


def test_a_picture_that_is_none_is_named_by_its_place(siglip: SiglipEngine) -> None:
    for call in (siglip.embed_images, lambda *given, **settings: siglip.lens(given[0], LABELS, **settings)):
        with pytest.raises(InvalidArgumentError, match=r"^images: number 5: expected .*not str") as refusal:
            call([PICTURE] * 5 + ["a.jpg"], batch_size=2)
        assert (refusal.value.argument, refusal.value.path) == ("images", (5,))


def test_layers_may_be_numpy_s_whole_numbers(siglip: SiglipEngine) -> None:
    lens = siglip.lens([PICTURE], LABELS, layers=[*np.arange(2), 3], outputs=("pooled", "patch"))
    assert lens.layers == (0, 1, 3)
    whole = siglip.lens([PICTURE], LABELS)
    assert whole.settle_layer is not None
    settled = patch_lens(siglip, patch_layers=[whole.settle_layer[0]])
    assert settled.patch.layers == (int(whole.settle_layer[0]),)


def test_a_lens_is_shown_in_a_line(siglip: SiglipEngine) -> None:
    assert repr(patch_lens(siglip)) == "Lens(1 image, 4 layers, 2 labels: pooled, patch)"


def test_a_full_memory_of_the_cpu_is_our_out_of_memory() -> None:
    with pytest.raises(OutOfMemoryError), memory_errors():
        torch.empty(2**60)
    with pytest.raises(OutOfMemoryError), memory_errors():
        np.empty(2**56)


def test_embeddings_in_any_precision_and_order_of_bytes_are_rescored_alike(siglip: SiglipEngine) -> None:
    embeddings = siglip.lens([PICTURE], LABELS, outputs=("embeddings",)).embeddings
    assert embeddings is not None
    wanted = siglip.rescore(embeddings, LABELS).cosine
    for same in (
        embeddings.astype(">f4"),
        embeddings.astype(np.longdouble),
        torch.from_numpy(embeddings).double().requires_grad_(),
    ):
        np.testing.assert_array_equal(siglip.rescore(same, LABELS).cosine, wanted)
