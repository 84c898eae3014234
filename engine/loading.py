"""From a name to weights in memory: safetensors only, no remote code, one revision for every file."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)
from transformers.utils.logging import disable_progress_bar

from engine.catalog import Catalog, Checkpoint
from engine.errors import InvalidArgumentError, ModelLoadFailedError, ModelNotSupportedError
from engine.text import TEXT_POSITIONS

# A service's log is no terminal; the bars of a hundred weights would fill it.
disable_progress_bar()

# The files of a checkpoint; pickled weights, which could run code, are not even fetched.
_FILES: Final = ("*.json", "*.safetensors", "*.model", "*.txt")
_FETCH_FAULTS: Final = (OSError, ValueError, httpx.HTTPError)
_READ_FAULTS: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)
_WHERE: Final = (
    "Put the checkpoint into the hub cache (HF_HOME; HF_TOKEN if it asks for one), or map the name to a "
    "folder that holds it in LENSQUEUE_MODEL_PATHS."
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, and where it came from.

    `checkpoint_sha256` is of weights and configuration: heads and epsilons are in the latter alone.
    """

    model: Any
    processor: Any
    name: str
    revision: str
    weights_sha256: str
    checkpoint_sha256: str


def choose(name: str | Path, catalog: Catalog, revision: str | None) -> Checkpoint:
    """The checkpoint meant by a caller of the library, who may name a folder as well.

    Raises:
        CatalogError: the catalog refuses the name and it is no folder.
        InvalidArgumentError: a revision for a folder, which has none.
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise InvalidArgumentError("model_name", "expected a model's name or a folder")
    if str(name) not in catalog.names() and _looks_like_folder(name):
        folder = _resolve(name)
        checkpoint = Checkpoint(name=str(name), source=str(folder), local=True)
    else:
        checkpoint = catalog.find(str(name))
    if revision is None:
        return checkpoint
    if checkpoint.local:
        raise InvalidArgumentError(
            "revision", f"{checkpoint.name} is a folder; only hub checkpoints have one"
        )
    return replace(checkpoint, revision=revision)


def load(checkpoint: Checkpoint, device: torch.device) -> Loaded:
    """Model, tokenizer and image processor of one checkpoint, checked to be complete.

    In float32, always said: without a dtype the library keeps whatever the file holds. The image processor is
    the Pillow one by class: the automatic choice changes pixels once torchvision is installed.

    Raises:
        ModelLoadFailedError: files are missing, torn, of another format, or lack weights.
        ModelNotSupportedError: the folder holds another kind of model.
    """
    folder = _fetch(checkpoint)
    weights = _weight_files(folder, checkpoint.name)
    _check_kind(folder, checkpoint.name)
    try:
        model, report = SiglipModel.from_pretrained(
            folder,
            config=_config(folder),
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=model.config, local_files_only=True, trust_remote_code=False
        )
        image_processor = SiglipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        processor = SiglipProcessor(image_processor=image_processor, tokenizer=tokenizer)
        digest = _hash(weights)
        whole = hashlib.sha256(f"{digest}\n{_hash([folder / 'config.json'])}".encode()).hexdigest()
    except _READ_FAULTS as fault:
        raise ModelLoadFailedError(
            f"{checkpoint.name} in {folder} cannot be read: {fault}. {_WHERE}"
        ) from fault
    # Left alone, the library fills what is missing with random numbers and only logs it.
    absent = sorted(report["missing_keys"]) + [str(key) for key in report["mismatched_keys"]]
    if absent:
        raise ModelLoadFailedError(
            f"{checkpoint.name} in {folder} lacks {len(absent)} weights, {absent[0]} first. {_WHERE}"
        )
    positions = model.config.text_config.max_position_embeddings
    if positions != TEXT_POSITIONS:
        raise ModelNotSupportedError(
            f"{checkpoint.name} in {folder} reads texts of {positions} tokens, SigLIP's have {TEXT_POSITIONS}"
        )
    return Loaded(
        model=model.eval().requires_grad_(False).to(device),
        processor=processor,
        name=checkpoint.name,
        revision=f"local:{whole}" if checkpoint.local else folder.name,
        weights_sha256=digest,
        checkpoint_sha256=whole,
    )


def _fetch(checkpoint: Checkpoint) -> Path:
    """The folder with all of a checkpoint's files; for a hub id its snapshot, named by the commit."""
    if checkpoint.local:
        folder = Path(checkpoint.source)
        if not _is_folder(folder):
            raise ModelLoadFailedError(f"{checkpoint.name[:200]}: there is no such folder. {_WHERE}")
        return folder
    try:
        return Path(
            snapshot_download(checkpoint.source, revision=checkpoint.revision, allow_patterns=list(_FILES))
        )
    except _FETCH_FAULTS as fault:
        raise ModelLoadFailedError(
            f"{checkpoint.name} is not in the hub cache and cannot be fetched:"
            f" {str(fault).rstrip('.')}. {_WHERE}"
        ) from fault


def _weight_files(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if not files[0].is_file() and index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            files = [folder / shard for shard in shards]
        except (ValueError, KeyError, AttributeError, TypeError) as fault:
            raise ModelLoadFailedError(f"{name}: {index} is damaged. {_WHERE}") from fault
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelLoadFailedError(
            f"{name}: no {missing[0]} in {folder}; weights are read from safetensors files only. {_WHERE}"
        )
    return files


def _config(folder: Path) -> SiglipConfig:
    """The configuration, made here for the sake of two warnings that are none.

    No lens asks for the tokens that begin or end a text. Where a checkpoint names none, the library takes
    CLIP's, which are beyond SigLIP's vocabulary, and warns; and so it does whenever it reads a configuration
    itself, to log how that differs from the default.
    """
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = {**(told.get("text_config") or {}), "bos_token_id": None, "eos_token_id": None}
    return SiglipConfig(**{**told, "text_config": text})


def _check_kind(folder: Path, name: str) -> None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, has_head = config["model_type"], config.get("vision_config", {}).get("vision_use_head", True)
    except _READ_FAULTS as fault:
        raise ModelLoadFailedError(f"{name}: {path} cannot be read: {fault!r}. {_WHERE}") from fault
    if kind != "siglip":
        raise ModelNotSupportedError(
            f"{name}: {folder} holds a model of type {kind!r}. Supported is 'siglip': SigLIP, and SigLIP 2 "
            "of fixed resolution."
        )
    if not has_head:
        raise ModelNotSupportedError(
            f"{name}: {folder} has no attention pooling head, the way out of every lens."
        )


def _hash(files: list[Path]) -> str:
    """The sha256 of the weights; of several shards that of their hashes in the order of their names."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _looks_like_folder(name: str | Path) -> bool:
    if isinstance(name, Path) or name.startswith(("/", ".", "~")):
        return True
    return _is_folder(Path(name))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        # longer than a path may be, or with a NUL in it
        return False


def _resolve(name: str | Path) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as fault:
        raise InvalidArgumentError("model_name", f"{str(name)[:200]!r} is no folder: {fault}") from fault
