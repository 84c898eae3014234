"""The checkpoints this project supports; imports no torch, so that the API process can read it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from engine.errors import (
    CatalogError,
    ModelDoesNotExistError,
    ModelNotSupportedError,
    UnknownModelError,
)

DEFAULT_MODEL: Final = "google/siglip-so400m-patch14-384"
DEFAULT_TEMPLATE: Final = "This is a photo of {}."
"""Turns a label into the prompt that is embedded."""
DEMO_MODEL: Final = "lensqueue/siglip-tiny-shapes"

_VISION_DEFAULTS: Final = {
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 16),
    "hidden_size": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "attention_heads": ("num_attention_heads", 12),
    "mlp_size": ("intermediate_size", 3072),
}
_TABLE: Final = Path(__file__).with_name("checkpoints.json")
_DEMO_FOLDER: Final = Path(__file__).resolve().parents[1] / "demo" / "checkpoint"


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes by which jobs are checked and priced before any weight is read.

    `grid` is [rows, cols] of patch tokens: `image_size // patch_size` each way, so that a patch of 14 pixels
    covers 27 x 14 = 378 of 384 pixels.
    """

    image_size: int
    patch_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    mlp_size: int

    @property
    def grid(self) -> tuple[int, int]:
        side = self.image_size // self.patch_size
        return side, side

    @property
    def patch_tokens(self) -> int:
        rows, cols = self.grid
        return rows * cols


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One supported model: where its weights are, not yet what they are.

    `source` is a hub id or a folder. `revision` is the hub revision to load (None: the branch main); a
    folder's revision is `local:<weights hash>` and known only when it is loaded. `dimensions` is None for a
    mapped folder that this process cannot read.
    """

    name: str
    source: str
    revision: str | None = None
    dimensions: Dimensions | None = None
    local: bool = False


@dataclass(frozen=True)
class Catalog:
    """The eleven checkpoints of the table, the demo checkpoint, and names that the operator maps to folders.

    A mapped name may be one of the eleven, which is then read from the folder instead of the hub.
    """

    model_paths: Mapping[str, Path] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every name that `find` accepts: the table's first, then the demo, then the operator's own."""
        known = [*_hub_dimensions(), DEMO_MODEL]
        return known + sorted(set(self.model_paths) - set(known))

    def find(self, name: str) -> Checkpoint:
        """The checkpoint of this name, without touching disk beyond a mapped folder's `config.json`.

        Raises:
            ModelDoesNotExistError: one of the names people expect on the hub and that is not there.
            ModelNotSupportedError: it exists, and this engine does not read its kind or size.
            UnknownModelError: anything else, folder paths included: a name from a client is never a path.
        """
        if name in self.model_paths:
            return _in_folder(name, Path(self.model_paths[name]))
        if name == DEMO_MODEL:
            return _in_folder(name, _DEMO_FOLDER)
        dimensions = _hub_dimensions().get(name)
        if dimensions is None:
            raise _refusal(name, self.names())
        return Checkpoint(name=name, source=name, dimensions=dimensions)


def _refusal(name: str, supported: list[str]) -> CatalogError:
    hint = f"Supported: {', '.join(supported)}."
    nearest = _table()["do_not_exist"].get(name)
    if nearest is not None:
        return ModelDoesNotExistError(
            f"{name} does not exist on the hub. The nearest that does is {nearest}. {hint}"
        )
    if name in _table()["not_supported"] or (name.startswith("google/siglip") and "naflex" in name):
        why = (
            "its variable resolution has no fixed patch grid"
            if "naflex" in name
            else "it is not in the table"
        )
        return ModelNotSupportedError(f"{name} exists, but is not supported: {why}. {hint}")
    return UnknownModelError(
        f"Unknown model {name!r}. {hint} For own weights, the operator maps a name to a folder in "
        "LENSQUEUE_MODEL_PATHS."
    )


def _in_folder(name: str, folder: Path) -> Checkpoint:
    return Checkpoint(name=name, source=str(folder), dimensions=_folder_dimensions(folder), local=True)


def _folder_dimensions(folder: Path) -> Dimensions | None:
    try:
        return _read_dimensions(folder, (folder / "config.json").stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        # The folder may exist only where the workers run; the worker is the one to say what is wrong with it.
        return None


@lru_cache
def _read_dimensions(folder: Path, _changed: int) -> Dimensions | None:
    """Read once for each change, since every submit asks; a failure to read is not kept."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vision = config["vision_config"]
    # The hub's configs leave out whatever equals the defaults, which are those of base-patch16-224.
    sizes = {name: int(vision.get(key, default)) for name, (key, default) in _VISION_DEFAULTS.items()}
    return Dimensions(**sizes) if min(sizes.values()) > 0 else None


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


@cache
def _hub_dimensions() -> dict[str, Dimensions]:
    return {
        row["checkpoint"]: Dimensions(
            image_size=row["image_size"],
            patch_size=row["patch_size"],
            hidden_size=row["hidden_size"],
            layers=row["layers"],
            attention_heads=row["attention_heads"],
            mlp_size=row["mlp_size"],
        )
        for row in _table()["checkpoints"]
    }
