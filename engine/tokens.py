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
    Directions,
    Hidden,
    KeptLabels,
    LabelParts,
    NormMaps,
    PatchEmbeddings,
    PatchScores,
    ProbeAttention,
    TextEmbeddings,
    TokenStates,
    TokenVectors,
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
    activations: TokenStates | None = None


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
        self._by_value = plan.patch_method == "value" and "patch" in plan.outputs
        self._patches: list[PatchEmbeddings] = []
        self._tokens: list[TokenVectors] = []
        self._lengths: list[Tensor] = []
        self._attention: list[ProbeAttention] = []
        self._norms: list[Tensor] = []
        self._states: list[Tensor] = []

    def take(self, hidden: Hidden) -> None:
        """Read one layer."""
        outputs, folded = self._plan.outputs, self._folded
        if "token_norms" in outputs:
            self._norms.append(torch.linalg.vector_norm(hidden, dim=-1))
        if "patch" in outputs and not self._by_value:
            self._patches.append(unit_rows(read_patches(self._vision, hidden)))
        if self._by_value or outputs & {"probe_attention", "contribution"}:
            tokens = folded.norm(hidden)
            if self._by_value:
                self._lengths.append(folded.measure(tokens))
            if outputs & {"probe_attention", "contribution"}:
                self._attention.append(folded.attend(tokens))
            if self._by_value or "contribution" in outputs:
                self._tokens.append(tokens)

    def keep(self, hidden: Hidden) -> None:
        """Keep one layer itself, of the chosen tokens, away from the device."""
        chosen = self._plan.activation_tokens
        kept = hidden if chosen is None else hidden[:, list(chosen)]
        # copied, since the runtime writes the next batch into the same memory
        self._states.append(kept.to("cpu", copy=True))

    def score(self, unit: TextEmbeddings, kept: KeptLabels) -> TokenMaps:
        """The maps of what was taken; `unit` [label, width] of norm 1, `kept` as in `engine.lens.Lens`."""
        # mostly the same for every picture
        rows = kept[:1] if (kept == kept[:1]).all() else kept
        directions = unit[torch.from_numpy(rows).to(unit.device)]
        found: dict[str, Any] = {}
        if self._patches:
            found["patch"] = self._on_grid([directions @ each.transpose(1, 2) for each in self._patches])
        if self._by_value:
            found["patch"] = self._on_grid(self._value_maps(directions))
        if "probe_attention" in self._plan.outputs:
            found["probe_attention"] = self._on_grid(self._attention)
        if self._norms:
            found["token_norms"] = self._on_grid([norms[:, None] for norms in self._norms])[:, :, 0]
        if "contribution" in self._plan.outputs:
            found |= self._contributions(directions)
        if self._states:
            found["activations"] = torch.stack(self._states, dim=1).numpy()
        return TokenMaps(**found)

    def _value_maps(self, directions: Directions) -> list[Tensor]:
        pulled, offsets = self._folded.pull(directions)
        return [
            (pulled @ tokens.transpose(1, 2) + offsets[..., None]) / lengths[:, None]
            for tokens, lengths in zip(self._tokens, self._lengths, strict=True)
        ]

    def _contributions(self, directions: Directions) -> dict[str, Any]:
        """Shares of each token, of the biases and of the MLP, see `engine.lens.Contribution`."""
        pulled, offsets = self._folded.pull_by_head(directions)
        shares, biases, mlps = [], [], []
        for tokens, attention in zip(self._tokens, self._attention, strict=True):
            attended, mlp = self._folded.part(attention @ tokens)
            norm = torch.linalg.vector_norm(attended + mlp, dim=-1)[:, None]
            read = torch.einsum("bkhw,bnw->bkhn", pulled.expand(len(tokens), -1, -1, -1), tokens)
            shares.append((read * attention[:, None]).sum(dim=2) / norm[..., None])
            biases.append(offsets / norm)
            mlps.append((directions @ mlp[..., None])[..., 0] / norm)
        return {
            "contribution": self._on_grid(shares),
            "contribution_bias": torch.stack(biases, dim=1).cpu().numpy(),
            "contribution_mlp": torch.stack(mlps, dim=1).cpu().numpy(),
        }

    def _on_grid(self, maps: Sequence[Tensor]) -> Any:
        stacked = torch.stack(list(maps), dim=1)
        return stacked.cpu().numpy().reshape(*stacked.shape[:3], *self._plan.grid)
