"""The pooling head with all that does not depend on the picture multiplied out: cheap at every layer.

The head asks one learned question of all tokens. With its query q folded into the keys, head h attends by

    a_hn = softmax_n( (W_K,h^T q_h / sqrt d) . z_n ),   z = post_layernorm(hidden)

(what the key's bias adds is the same for every token and leaves the softmax alone), and values are taken of
the pooled token instead of every one, W_V (sum_n a_hn z_n) + b_V, since the a_hn sum to 1. What follows, the
output projection and the residual MLP, is the checkpoint's own. All of it is in float32, as the weights are.
"""

import math
from typing import Any, Final

import torch

from engine.shapes import (
    Directions,
    HeadDirections,
    Hidden,
    LabelOffsets,
    MixedTokens,
    Pooled,
    ProbeAttention,
    TokenLengths,
    TokenVectors,
)

BLOCK_ROWS: Final = 144
"""Of the triangle of a `_Triangle`: an eighth of so400m's, small enough to skip most zeros."""


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
        self._out, out_bias = head.attention.out_proj.weight, head.attention.out_proj.bias
        self._moved = self._out @ value
        self._moved_bias = self._out @ value_bias + out_bias
        self._lengths = _Triangle(self._moved, self._moved_bias)

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
        attended, mlp = self.part(mixed)
        return attended + mlp

    @torch.no_grad()
    def part(self, mixed: MixedTokens) -> tuple[Pooled, Pooled]:
        """The two that an image embedding is the sum of: what attention moved, and what the MLP adds."""
        values = (mixed.transpose(0, 1) @ self._values).transpose(0, 1).flatten(1) + self._value_bias
        head = self._vision.head
        attended: Pooled = head.attention.out_proj(values)
        mlp: Pooled = head.mlp(head.layernorm(attended))
        return attended, mlp

    @torch.no_grad()
    def measure(self, tokens: TokenVectors) -> TokenLengths:
        """|u_n| of what attention would move of each token alone, u_n = W_O (W_V z_n + b_V) + b_O.

        By a QR decomposition, |W z + b| = |R (z, 1)| with R triangular: half the products, see `_Triangle`.
        """
        return self._lengths.measure(tokens)

    @torch.no_grad()
    def pull(self, directions: Directions) -> tuple[Directions, LabelOffsets]:
        """Labels taken back to the tokens: (r, c) with <u_n, t> = <z_n, r> + c for each label t.

        A product with each label costs far less than moving each token through a matrix, with the same sum.
        """
        return directions @ self._moved, directions @ self._moved_bias

    @torch.no_grad()
    def pull_by_head(self, directions: Directions) -> tuple[HeadDirections, LabelOffsets]:
        """The same head by head, r [batch, kept, head, width]: sum_h a_hn <z_n, r_h> is a token's share.

        c, what the biases W_O b_V + b_O give each label, belongs to no token.
        """
        values = directions @ self._out
        by_head = values.unflatten(-1, (self._heads, -1)).movedim(-2, 0)
        pulled = (by_head.flatten(1, 2) @ self._values.transpose(1, 2)).unflatten(1, by_head.shape[1:3])
        return pulled.movedim(0, 2), directions @ self._moved_bias

    def mix(self, hidden: Hidden) -> MixedTokens:
        """What each head takes of the tokens of one layer: small, so that layers can wait for `finish`."""
        tokens = self.norm(hidden)
        return self.attend(tokens) @ tokens

    def read(self, hidden: Hidden) -> Pooled:
        """The pooled lens of one layer: [batch, patch, width] -> [batch, width]."""
        return self.finish(self.mix(hidden))


class _Triangle:
    """|W z + b| of many z, from the triangle R of (W, b) = Q R, block of rows by block of rows.

    The rows of a block begin with as many zeros as there are rows above it: those columns are left out.
    """

    def __init__(self, matrix: torch.Tensor, offset: torch.Tensor) -> None:
        both = torch.cat([matrix, offset[:, None]], dim=1)
        # in float64, once: the lengths are then as exact as their sums
        triangle = torch.linalg.qr(both.double(), mode="r").R.float()
        self._blocks = [
            (first, rows[:, first:-1].T.contiguous(), rows[:, -1].contiguous())
            for first, rows in zip(
                range(0, len(triangle), BLOCK_ROWS), triangle.split(BLOCK_ROWS), strict=True
            )
        ]

    def measure(self, vectors: TokenVectors) -> TokenLengths:
        squares = torch.zeros(vectors.shape[:-1], device=vectors.device)
        for first, columns, offset in self._blocks:
            squares += (vectors[..., first:] @ columns + offset).square().sum(dim=-1)
        return squares.sqrt()
