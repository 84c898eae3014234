"""Checkpoints of real dimensions with random weights: what was learned does not change what a pass costs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from engine.catalog import Catalog
from tests.numerics.checkpoints import Sizes, save_siglip

VOCABULARY = 32_000


def sizes_of(model: str, layers: int | None = None) -> Sizes:
    """The dimensions of a supported checkpoint, with fewer layers if asked."""
    known = Catalog().find(model).dimensions
    assert known is not None
    sizes = Sizes(
        image_size=known.image_size,
        patch_size=known.patch_size,
        width=known.hidden_size,
        layers=known.layers,
        heads=known.attention_heads,
        mlp=known.mlp_size,
        vocabulary=VOCABULARY,
    )
    return sizes if layers is None else replace(sizes, layers=layers)


def pass_gflop(sizes: Sizes) -> float:
    """Work of one picture's pass through the blocks, a multiply-add counted as two."""
    tokens = (sizes.image_size // sizes.patch_size) ** 2
    a_token = 8 * sizes.width**2 + 4 * sizes.width * sizes.mlp + 4 * tokens * sizes.width
    return tokens * a_token * sizes.layers / 1e9


@contextmanager
def saved(sizes: Sizes) -> Iterator[Path]:
    """A folder with such a checkpoint, in bfloat16; deleted in the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield save_siglip(Path(folder) / "checkpoint", sizes=sizes, dtype=torch.bfloat16)
