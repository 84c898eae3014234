"""The pooling head with all that does not depend on the picture multiplied out: cheap at every layer.

The head asks one learned question of all tokens. With its query q folded into the keys, head h attends by

    a_hn = softmax_n( (W_K,h^T q_h / sqrt d) . z_n ),   z = post_layernorm(hidden)

(what the key's bias adds is the same for every token and leaves the softmax alone), and values are taken of
the pooled token instead of every one, W_V (sum_n a_hn z_n) + b_V, since the a_hn sum to 1. What follows, the
output projection and the residual MLP, is the checkpoint's own. All of it is in float32, as the weights are.
"""

import math
from typing import Any

import torch

from engine.shapes import (
    Contributions,
    Hidden,
    MixedTokens,
    PatchEmbeddings,
    Pooled,
    ProbeAttention,
    TokenVectors,
)


class FoldedHead:
    """A vision tower's way out, folded once when the checkpoint is loaded."""

    @torch.no_grad()
    def __init__(self, vision: Any) -> None:
        self._vision = vision
        head = vision.head
        heads = head.attention.num_heads
        query, key, value = head.attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = head.attention.in_proj_bias.chunk(3)
        width = query.shape[1]
        asked = (head.probe.reshape(width) @ query.T + query_bias).reshape(heads, -1)
        depth = asked.shape[1]
        self._keys = torch.einsum("hd,hdw->hw", asked, key.reshape(heads, depth, width)) / math.sqrt(depth)
        self._values = value.reshape(heads, depth, width).transpose(1, 2).contiguous()
        self._value_bias = value_bias
        self._heads = heads
        self._value = value.T.contiguous()
        out, out_bias = head.attention.out_proj.weight, head.attention.out_proj.bias
        self._moved = (out @ value).T.contiguous()
        self._moved_bias = out @ value_bias + out_bias
        self._out = out.T.contiguous()

    @torch.no_grad()
    def norm(self, hidden: Hidden) -> TokenVectors:
        """The tokens as the head sees them; the statistics are those of this layer."""
        tokens: TokenVectors = self._vision.post_layernorm(hidden)
        return tokens

    @torch.no_grad()
    def attend(self, tokens: TokenVectors) -> ProbeAttention:
        """How much each head's probe takes of each token; over the tokens they sum to 1."""
        return torch.softmax(tokens @ self._keys.T, dim=1).transpose(1, 2)

    @torch.no_grad()
    def finish(self, mixed: MixedTokens) -> Pooled:
        """What the head makes of mixed tokens [batch, head, width]: image embeddings, unnormalised.

        Rows of many layers at once cost little more than those of one: the weights are read once.
        """
        values = (mixed.transpose(0, 1) @ self._values).transpose(0, 1).flatten(1) + self._value_bias
        head = self._vision.head
        attended = head.attention.out_proj(values)
        embedding: torch.Tensor = attended + head.mlp(head.layernorm(attended))
        return embedding

    @torch.no_grad()
    def move(self, tokens: TokenVectors) -> PatchEmbeddings:
        """What attention would move of each token if it took nothing else, W_O (W_V z_n + b_V) + b_O.

        Without the MLP that the head adds: to be compared among patches only, its zero means nothing.
        """
        moved: torch.Tensor = tokens @ self._moved + self._moved_bias
        return moved

    @torch.no_grad()
    def contribute(self, tokens: TokenVectors, attention: ProbeAttention) -> Contributions:
        """What the image embedding e is the sum of, divided by its norm: [batch, patch + 2, width].

        First each token's share, sum_h a_hn W_O,h W_V,h z_n; then that of the biases, W_O b_V + b_O; then the
        MLP's, which no token can claim. Their products with a unit text vector add up to its cosine with e.
        """
        batch, count, width = tokens.shape
        values = (tokens @ self._value).reshape(batch, count, self._heads, -1)
        shares = (values * attention.transpose(1, 2)[..., None]).reshape(batch, count, width) @ self._out
        bias = self._moved_bias.expand(batch, width)
        attended = shares.sum(dim=1) + bias
        head = self._vision.head
        mlp = head.mlp(head.layernorm(attended))
        parts = torch.cat([shares, bias[:, None], mlp[:, None]], dim=1)
        norm: torch.Tensor = torch.linalg.vector_norm(attended + mlp, dim=-1)
        return parts / norm[:, None, None]

    def mix(self, hidden: Hidden) -> MixedTokens:
        """What each head takes of the tokens of one layer: small, so that layers can wait for `finish`."""
        tokens = self.norm(hidden)
        return self.attend(tokens) @ tokens

    def read(self, hidden: Hidden) -> Pooled:
        """The pooled lens of one layer: [batch, patch, width] -> [batch, width]."""
        return self.finish(self.mix(hidden))
