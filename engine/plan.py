"""What a lens is asked for, once it was checked."""

from dataclasses import dataclass
from typing import Final

TOKEN_OUTPUTS: Final = ("patch", "probe_attention", "contribution", "token_norms")
"""Read of each token, at the patch layers."""
OUTPUTS: Final = ("pooled", *TOKEN_OUTPUTS, "embeddings")
"""What a lens can give; the pooled one is always there, since it says which label is on top."""
PATCH_METHODS: Final = ("head", "value")


@dataclass(frozen=True)
class LensPlan:
    """What to read of every picture.

    `depth` is L, `grid` [rows, cols] of patches. `layers` are those of the pooled lens, `patch_layers` those
    at which tokens are read, both ascending in 0..L; None: no output of TOKEN_OUTPUTS was asked for.
    """

    depth: int
    grid: tuple[int, int]
    layers: tuple[int, ...]
    patch_layers: tuple[int, ...] | None
    patch_method: str
    outputs: frozenset[str] = frozenset({"pooled"})
