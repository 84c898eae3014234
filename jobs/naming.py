"""How much of an item's JSON the names of its labels take: they are in every item, some for every layer."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from engine.catalog import Checkpoint
from engine.plan import count_kept
from jobs.errors import LabelsTooLongError

MAX_NAMES_BYTES: Final = 88 * 1024
"""Of an item. A hundred labels at 28 layers, with all that is read of them, take 160 KiB of numbers."""
MAX_DEPTH: Final = 28
"""Layers that are read of the deepest checkpoint."""
NAMING_OUTPUTS: Final = ("pooled", "patch", "contribution")
"""Each lists the labels that it is of."""


def check_names(options: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse labels whose names would make the results larger than what is scored.

    Raises:
        LabelsTooLongError: they are too long together.
    """
    sizes = sorted((_json_bytes(label) for label in options["labels"]), reverse=True)
    kept = sizes[: count_kept(len(sizes))]
    lists = sum(output in options["outputs"] for output in NAMING_OUTPUTS)
    depth = MAX_DEPTH if checkpoint.dimensions is None else checkpoint.dimensions.layers + 1
    # the one on top is named by itself, and for each layer
    needed = lists * sum(kept) + (depth + 1) * sizes[0]
    if needed > MAX_NAMES_BYTES:
        raise LabelsTooLongError(
            f"The names of the labels would take {needed} bytes of each result, which has room for"
            f" {MAX_NAMES_BYTES}:"
            ' shorten them, for example to {"name": "cat", "prompts": ["a long description of a cat"]}.',
            pointer="/labels",
        )


def _json_bytes(label: str | Mapping[str, Any]) -> int:
    name = label if isinstance(label, str) else label["name"]
    # with what stands between two of them
    return len(orjson.dumps(name)) + 1
