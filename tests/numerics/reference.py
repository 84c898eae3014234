"""SigLIP a second time, from its formulas alone: numpy in float64, no transformers and no torch.

Formulas: Zhai et al. 2023 (arXiv 2303.15343) and `models/vit.py`, `models/proj/image_text/two_towers.py` of
big_vision: pre-norm transformer blocks, GELU in its tanh form, learned positions, MAP head (one learned probe
attends over the normed tokens, then a residual MLP), text read at its last position and projected.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float64]
Activation = Callable[[Array], Array]


def gelu_tanh(x: Array) -> Array:
    """Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2, the approximation SigLIP is trained with."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))


def gelu_exact(x: Array) -> Array:
    """The same paper's x * Phi(x): the wrong one here, kept to show that the tolerance notices."""
    return np.asarray(0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))))


def unit(vectors: Array) -> Array:
    """Each row divided by its norm."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def distance(ours: ArrayLike, reference: Array) -> float:
    """Largest difference as a fraction of the reference's largest value."""
    difference = np.abs(np.asarray(ours, dtype=np.float64) - reference).max()
    return float(difference / np.abs(reference).max())


class Reference:
    """The two towers of one saved checkpoint; every method takes and gives float64."""

    def __init__(self, folder: Path, activation: Activation = gelu_tanh) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.vision, self.text = config["vision_config"], config["text_config"]
        self.weights = {
            key: value.astype(np.float64) for key, value in load_file(folder / "model.safetensors").items()
        }
        self.activation = activation

    def hidden_states(self, pixels: Array) -> list[Array]:
        """[batch, 3, side, side] -> L + 1 arrays [batch, patch, width]."""
        size = self.vision["patch_size"]
        side = self.vision["image_size"] // size
        kernel = self.weights["vision_model.embeddings.patch_embedding.weight"]
        patches = np.stack(
            [
                pixels[:, :, row * size : (row + 1) * size, col * size : (col + 1) * size].reshape(
                    len(pixels), -1
                )
                for row in range(side)
                for col in range(side)
            ],
            axis=1,
        )
        x = patches @ kernel.reshape(len(kernel), -1).T
        x = x + self.weights["vision_model.embeddings.patch_embedding.bias"]
        x = x + self.weights["vision_model.embeddings.position_embedding.weight"]
        return self._blocks(x, "vision_model", self.vision)

    def pooled(self, hidden: Array) -> Array:
        """The head's reading of a hidden state: [batch, patch, width] -> [batch, width]."""
        heads = self.vision["num_attention_heads"]
        tokens = self._norm(hidden, "vision_model.post_layernorm")
        probe = np.repeat(self.weights["vision_model.head.probe"], len(hidden), axis=0)
        packed = self.weights["vision_model.head.attention.in_proj_weight"]
        packed_bias = self.weights["vision_model.head.attention.in_proj_bias"]
        (q_w, k_w, v_w), (q_b, k_b, v_b) = np.split(packed, 3), np.split(packed_bias, 3)
        mixed = _attend(probe @ q_w.T + q_b, tokens @ k_w.T + k_b, tokens @ v_w.T + v_b, heads)
        u = self._linear(mixed, "vision_model.head.attention.out_proj")
        return np.asarray(
            (u + self._mlp(self._norm(u, "vision_model.head.layernorm"), "vision_model.head.mlp"))[:, 0]
        )

    def patches(self, hidden: Array) -> Array:
        """The head's reading of each token as if there were no other: [batch, patch, width] in and out."""
        batch, tokens, width = hidden.shape
        alone = self.pooled(hidden.reshape(batch * tokens, 1, width))
        return alone.reshape(batch, tokens, width)

    def values(self, hidden: Array) -> Array:
        """What attention alone would move of each token: [batch, patch, width] in and out."""
        tokens = self._norm(hidden, "vision_model.post_layernorm")
        _, _, weight = np.split(self.weights["vision_model.head.attention.in_proj_weight"], 3)
        _, _, bias = np.split(self.weights["vision_model.head.attention.in_proj_bias"], 3)
        return self._linear(tokens @ weight.T + bias, "vision_model.head.attention.out_proj")

    def attention(self, hidden: Array) -> Array:
        """How much each head's probe takes of each token: [batch, head, patch]."""
        heads = self.vision["num_attention_heads"]
        tokens = self._norm(hidden, "vision_model.post_layernorm")
        probe = self.weights["vision_model.head.probe"][0]
        q_w, k_w, _ = np.split(self.weights["vision_model.head.attention.in_proj_weight"], 3)
        q_b, k_b, _ = np.split(self.weights["vision_model.head.attention.in_proj_bias"], 3)
        query = (probe @ q_w.T + q_b).reshape(heads, -1)
        keys = (tokens @ k_w.T + k_b).reshape(*tokens.shape[:2], heads, -1)
        scores = np.einsum("hd,bnhd->bhn", query, keys) / math.sqrt(query.shape[1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))

    def shares(self, hidden: Array) -> Array:
        """Each token's part of the image embedding before the head's MLP, over the embedding's norm."""
        heads = self.vision["num_attention_heads"]
        tokens = self._norm(hidden, "vision_model.post_layernorm")
        _, _, weight = np.split(self.weights["vision_model.head.attention.in_proj_weight"], 3)
        values = (tokens @ weight.T).reshape(*tokens.shape[:2], heads, -1)
        taken = values * self.attention(hidden).transpose(0, 2, 1)[..., None]
        moved = taken.reshape(tokens.shape) @ self.weights["vision_model.head.attention.out_proj.weight"].T
        return np.asarray(moved / np.linalg.norm(self.pooled(hidden), axis=-1)[:, None, None])

    def text_embedding(self, ids: NDArray[np.int64]) -> Array:
        """Token ids [text, 64] -> [text, width]: read at the last position, whatever stands there."""
        x = self.weights["text_model.embeddings.token_embedding.weight"][ids]
        x = x + self.weights["text_model.embeddings.position_embedding.weight"][: ids.shape[1]]
        x = self._norm(self._blocks(x, "text_model", self.text)[-1], "text_model.final_layer_norm")
        return self._linear(x[:, -1], "text_model.head")

    def _blocks(self, x: Array, tower: str, config: dict[str, int]) -> list[Array]:
        states = [x]
        for index in range(config["num_hidden_layers"]):
            block = f"{tower}.encoder.layers.{index}"
            y = self._norm(x, f"{block}.layer_norm1")
            query, key, value = (self._linear(y, f"{block}.self_attn.{name}_proj") for name in "qkv")
            mixed = _attend(query, key, value, config["num_attention_heads"])
            x = x + self._linear(mixed, f"{block}.self_attn.out_proj")
            x = x + self._mlp(self._norm(x, f"{block}.layer_norm2"), f"{block}.mlp")
            states.append(x)
        return states

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return np.asarray(centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])

    def _linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])

    def _mlp(self, x: Array, name: str) -> Array:
        return self._linear(self.activation(self._linear(x, f"{name}.fc1")), f"{name}.fc2")


def _attend(query: Array, key: Array, value: Array, heads: int) -> Array:
    """softmax(q k / sqrt d) v in each head; [batch, n, width] each -> [batch, n of query, width]."""

    def split(x: Array) -> Array:
        return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(query), split(key), split(value)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return np.asarray(mixed.transpose(0, 2, 1, 3).reshape(query.shape[0], query.shape[1], -1))
