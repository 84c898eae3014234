"""From a name to weights: what is read, what is refused, and what is written down about it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from engine.catalog import DEMO_MODEL, Catalog
from engine.directions import TextStore
from engine.errors import (
    CatalogError,
    InvalidArgumentError,
    ModelDoesNotExistError,
    ModelLoadFailedError,
    ModelNotSupportedError,
    UnknownModelError,
)
from engine.siglip import SiglipEngine
from tests.numerics.checkpoints import save_siglip


@pytest.fixture
def copy(siglip_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(siglip_folder, tmp_path / "copy")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_half_precision_on_disk_is_loaded_as_float32_unless_asked(demo: SiglipEngine) -> None:
    folder = Path(demo.model.config._name_or_path)
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert {parameter.dtype for parameter in demo.model.parameters()} == {torch.float32}
    assert demo.embed_text("red circle").dtype == torch.float32


def test_bfloat16_is_kept_to_the_blocks_and_answers_are_float32(
    demo: SiglipEngine, scenes: list[tuple[Image.Image, str]]
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device="cpu", dtype="bfloat16")
    assert engine.provenance["last_layer_self_check"] == 0.0
    pictures = [picture for picture, _ in scenes]
    labels = ["red circle", "blue star", "green heart"]
    outputs = ("pooled", "patch")
    half, full = engine.lens(pictures, labels, outputs), demo.lens(pictures, labels, outputs)
    assert engine.embed_images(pictures).dtype == torch.float32
    assert torch.equal(engine.embed_text(labels), demo.embed_text(labels))
    assert half.cosine.dtype == full.cosine.dtype
    # A smoke test of the type: law 3b itself asks for a thousand scenes.
    assert abs(half.cosine - full.cosine).max() < 0.02
    assert half.patch is not None
    assert full.patch is not None
    assert half.patch.cosine.dtype == full.patch.cosine.dtype
    assert abs(half.patch.cosine - full.patch.cosine).max() < 0.02


def test_provenance_names_everything_that_could_change_a_number(
    siglip: SiglipEngine, siglip_folder: Path
) -> None:
    digest = hashlib.sha256((siglip_folder / "model.safetensors").read_bytes()).hexdigest()
    told = siglip.provenance
    assert told["weights_sha256"] == digest
    config = hashlib.sha256((siglip_folder / "config.json").read_bytes()).hexdigest()
    both = hashlib.sha256(f"{digest}\n{config}".encode()).hexdigest()
    assert told["revision"] == f"local:{both}"
    assert told["float32_matmul_precision"] == torch.get_float32_matmul_precision()
    assert told["attention"] == siglip.model.vision_model.config._attn_implementation == "sdpa"
    assert told["logit_scale"] == pytest.approx(torch.tensor(4.7).exp().item())
    assert told["logit_bias"] == pytest.approx(-12.9)
    assert told["dtype"] == siglip.dtype == "float32"
    assert told["runtime"] == siglip.runtime == "torch"
    assert told["device"] == str(siglip.device) == "cpu"
    assert told["transformers"] == transformers.__version__
    json.dumps(told)


def test_an_operator_s_name_is_read_from_its_folder(siglip_folder: Path) -> None:
    name = "google/siglip-base-patch16-224"
    engine = SiglipEngine(name, device="cpu", catalog=Catalog({name: siglip_folder}))
    # The folder need not match the table: what counts is what is in it.
    assert (engine.config.img_size, engine.config.hidden_size) == (48, 32)
    assert engine.provenance["model"] == name
    assert engine.provenance["revision"].startswith("local:")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("google/siglip-base-patch32-224", ModelDoesNotExistError),
        ("google/siglip2-base-patch16-naflex", ModelNotSupportedError),
        ("openai/clip-vit-base-patch32", UnknownModelError),
        ("/no/such/folder", ModelLoadFailedError),
    ],
)
def test_names_are_refused_before_anything_is_loaded(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        SiglipEngine(name, device="cpu")


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["vision_model.head.probe"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadFailedError, match=r"vision_model\.head\.probe"):
        SiglipEngine(copy, device="cpu")


def test_pickled_weights_are_not_read(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelLoadFailedError, match="safetensors"):
        SiglipEngine(copy, device="cpu")


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_torn_files_are_a_load_failure_that_says_what_to_do(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelLoadFailedError, match="LENSQUEUE_MODEL_PATHS"):
        SiglipEngine(copy, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "spiece.model"])
def test_missing_files_are_a_load_failure(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelLoadFailedError):
        SiglipEngine(copy, device="cpu")


def test_a_folder_of_another_kind_of_model_is_refused(copy: Path) -> None:
    edit_config(copy, model_type="siglip2")
    with pytest.raises(ModelNotSupportedError, match="siglip2"):
        SiglipEngine(copy, device="cpu")


def test_a_preprocessor_of_another_size_is_refused(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("48", "64"), encoding="utf-8")
    with pytest.raises(ModelLoadFailedError, match="48 x 48"):
        SiglipEngine(copy, device="cpu")


def test_texts_of_another_length_than_siglip_s_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["max_position_embeddings"] = 32
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(copy / "model.safetensors")
    name = "text_model.embeddings.position_embedding.weight"
    weights[name] = weights[name][:32].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotSupportedError, match="texts of 32 tokens"):
        SiglipEngine(copy, device="cpu")


def test_tokens_that_the_checkpoint_does_not_know_are_refused_before_they_reach_a_device(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = weights[name][:8].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["vocab_size"] = 8
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    engine = SiglipEngine(copy, device="cpu", runtime="torch")
    with pytest.raises(ModelLoadFailedError, match="fetch the tokenizer files again"):
        engine.embed_text("red circle")


def test_equal_weights_under_another_configuration_are_another_checkpoint(
    siglip: SiglipEngine, copy: Path
) -> None:
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_attention_heads"] //= 2
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    other = SiglipEngine(copy, device="cpu", runtime="torch")
    assert other.provenance["weights_sha256"] == siglip.provenance["weights_sha256"]
    assert other.provenance["revision"] != siglip.provenance["revision"]
    kept: dict[bytes, object] = {}
    store = TextStore(find=lambda _: {}, keep=kept.update)
    directions = siglip.embed_labels(["red circle"], store=store)
    other.embed_labels(["red circle"], store=store)
    assert len(kept) == 2
    with pytest.raises(InvalidArgumentError, match="another checkpoint"):
        other.lens([Image.new("RGB", (48, 48))], directions)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/checkpoint", "x" * 5_000, "a\0b", "/" + "y" * 5_000])
def test_names_that_no_file_system_takes_are_refused(name: str) -> None:
    with pytest.raises((CatalogError, InvalidArgumentError, ModelLoadFailedError)):
        SiglipEngine(name, device="cpu")


@pytest.mark.parametrize("shards", [{"a": 1}, {"a": "b", "c": 2}, []])
def test_an_index_that_names_no_files_is_a_load_failure(copy: Path, shards: object) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}), encoding="utf-8")
    with pytest.raises(ModelLoadFailedError):
        SiglipEngine(copy, device="cpu")


def test_shards_are_one_checkpoint_with_one_hash(siglip: SiglipEngine, copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    shards = {name: f"model-0000{1 + (index % 2)}-of-00002.safetensors" for index, name in enumerate(weights)}
    for shard in set(shards.values()):
        part = {name: tensor for name, tensor in weights.items() if shards[name] == shard}
        save_file(part, copy / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": shards}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    engine = SiglipEngine(copy, device="cpu")
    ours, theirs = engine.model.state_dict(), siglip.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # Not bit for bit: where a weight lies in its file decides how kernels align their sums.
    assert torch.allclose(engine.embed_text("red circle"), siglip.embed_text("red circle"), atol=1e-5)
    assert len(engine.provenance["weights_sha256"]) == 64


@pytest.mark.parametrize("named", [True, False])
def test_loading_says_nothing(copy: Path, *, named: bool) -> None:
    """In a process of its own: the library warns once in each."""
    if not named:
        text = json.loads((copy / "config.json").read_text(encoding="utf-8"))["text_config"]
        # as Google's checkpoints have it
        edit_config(copy, text_config={key: text[key] for key in text if not key.endswith("os_token_id")})
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from engine.siglip import SiglipEngine; SiglipEngine({str(copy)!r}, device='cpu')",
        ],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hub_cache_is_read_offline_and_its_commit_recorded(tmp_path: Path) -> None:
    """In a process of its own: the hub library reads HF_HOME when it is imported."""
    name, commit = "google/siglip-base-patch16-224", "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--google--siglip-base-patch16-224"
    save_siglip(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    script = (
        "import sys; from engine.siglip import SiglipEngine; from engine.errors import ModelLoadFailedError\n"
        f"print(SiglipEngine('{name}', device='cpu').provenance['revision'])\n"
        "try: SiglipEngine(device='cpu')\n"
        "except ModelLoadFailedError as failure: print(failure.code, 'HF_HOME' in str(failure))\n"
        "print('torchvision' in sys.modules)"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [commit, "model-load-failed", "True", "False"]
