"""What a lens reads of each token, layer by layer: vectors that wait for labels, and plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.cosine import unit_rows
from engine.folded import FoldedHead
from engine.plan import LensPlan
from engine.residual import read_patches
from engine.shapes import (
    AttentionMaps,
    Hidden,
    KeptLabels,
    LabelParts,
    NormMaps,
    PatchEmbeddings,
    PatchScores,
    TextEmbeddings,
)


@dataclass(frozen=True)
class TokenMaps:
    """What was read of some pictures' tokens, None where not asked for; shapes are in `engine.lens`."""

    patch: PatchScores | None = None
    probe_attention: AttentionMaps | None = None
    token_norms: NormMaps | None = None
    contribution: PatchScores | None = None
    contribution_bias: LabelParts | None = None
    contribution_mlp: LabelParts | None = None


def join_maps(parts: Sequence[TokenMaps]) -> TokenMaps:
    """Those of several batches, in their order."""
    joined: dict[str, Any] = {}
    for field in fields(TokenMaps):
        maps = [getattr(part, field.name) for part in parts]
        joined[field.name] = None if maps[0] is None else np.concatenate(maps)
    return TokenMaps(**joined)


class TokenReader:
    """One batch's: `take` each planned layer in order, then `score` once layer L has said what is kept.

    Vectors wait rather than scores: of many labels only a few are kept, and not known before.
    """

    def __init__(self, vision: Any, folded: FoldedHead, plan: LensPlan) -> None:
        self._vision = vision
        self._folded = folded
        self._plan = plan
        self._patches: list[PatchEmbeddings] = []
        self._attention: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._contributions: list[Tensor] = []

    def take(self, hidden: Hidden) -> None:
        """Read one layer."""
        outputs, folded = self._plan.outputs, self._folded
        if "token_norms" in outputs:
            self._norms.append(torch.linalg.vector_norm(hidden.float(), dim=-1))
        if "patch" in outputs and self._plan.patch_method == "head":
            self._patches.append(unit_rows(read_patches(self._vision, hidden)))
        elif "patch" in outputs:
            self._patches.append(unit_rows(folded.move(folded.norm(hidden))))
        if "probe_attention" in outputs or "contribution" in outputs:
            tokens = folded.norm(hidden)
            attention = folded.attend(tokens)
            if "probe_attention" in outputs:
                self._attention.append(attention)
            if "contribution" in outputs:
                self._contributions.append(folded.contribute(tokens, attention))

    def score(self, unit: TextEmbeddings, kept: KeptLabels) -> TokenMaps:
        """The maps of what was taken; `unit` [label, width] of norm 1, `kept` as in `engine.lens.Lens`."""
        directions = unit[torch.from_numpy(kept).to(unit.device)]
        found: dict[str, Any] = {}
        if self._patches:
            found["patch"] = self._on_grid([directions @ each.transpose(1, 2) for each in self._patches])
        if self._attention:
            found["probe_attention"] = self._on_grid(self._attention)
        if self._norms:
            found["token_norms"] = self._on_grid([norms[:, None] for norms in self._norms])[:, :, 0]
        if self._contributions:
            parts = torch.stack([directions @ each.transpose(1, 2) for each in self._contributions], dim=1)
            found["contribution"] = self._on_grid(list(parts[..., :-2].unbind(1)))
            found["contribution_bias"] = parts[..., -2].cpu().numpy()
            found["contribution_mlp"] = parts[..., -1].cpu().numpy()
        return TokenMaps(**found)

    def _on_grid(self, maps: Sequence[Tensor]) -> Any:
        stacked = torch.stack(list(maps), dim=1)
        return stacked.cpu().numpy().reshape(*stacked.shape[:3], *self._plan.grid)
