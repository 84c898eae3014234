"""What a lens is asked for, once it was checked; imports no torch, so that a job can be quoted."""

from dataclasses import dataclass
from typing import Final

TOKEN_OUTPUTS: Final = ("patch", "probe_attention", "contribution", "token_norms")
"""Read of each token, at the patch layers."""
OUTPUTS: Final = ("pooled", *TOKEN_OUTPUTS, "embeddings", "activations")
"""What a lens can give; the pooled one is always there, since it says which label is on top."""
PATCH_METHODS: Final = ("head", "value")

MAX_SCORED_LABELS: Final = 100
TOP_LABELS: Final = 5
"""With more labels than MAX_SCORED_LABELS, the scores of so many are kept: the best at the last layer."""


def count_kept(labels: int) -> int:
    """Of how many labels the scores are handed out."""
    return labels if labels <= MAX_SCORED_LABELS else TOP_LABELS


@dataclass(frozen=True)
class LensPlan:
    """What to read of every picture.

    `depth` is L, `grid` [rows, cols] of patches. `layers` are those of the pooled lens, `patch_layers` those
    at which tokens are read, `activation_layers` those whose hidden states are handed out, all ascending in
    0..L; None: no such output was asked for. `activation_tokens` are of which tokens, ascending, row by row
    from the top left; None is all of them.
    """

    depth: int
    grid: tuple[int, int]
    layers: tuple[int, ...]
    patch_layers: tuple[int, ...] | None
    patch_method: str
    outputs: frozenset[str] = frozenset({"pooled"})
    activation_layers: tuple[int, ...] | None = None
    activation_tokens: tuple[int, ...] | None = None

    @property
    def patch_tokens(self) -> int:
        """How many tokens a picture has."""
        rows, cols = self.grid
        return rows * cols
