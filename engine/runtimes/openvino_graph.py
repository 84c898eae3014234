"""SigLIP's encoder blocks as an OpenVINO graph, every layer's hidden state an output of it.

Written from the formulas rather than converted from a trace: tracing twelve blocks took 24 s and a second
copy of the weights, this takes a third of a second. What it computes is held against the reference whenever a
checkpoint is loaded.
"""

from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset15 as op

Node = Any
"""A value in the graph; the library has no type for it that arithmetic on nodes would keep."""


def build_graph(vision: Any, tokens: int) -> openvino.Model:
    """hidden_states[0] [batch, patch, width] -> hidden_states[1..L], float32, with any number of pictures.

    `tokens` is the number of patches. Pre-norm blocks, GELU in its tanh form (big_vision, `models/vit.py`).
    """
    width = vision.config.hidden_size
    first = op.parameter([-1, tokens, width], np.float32)
    states, hidden = [], first
    for block in vision.encoder.layers:
        hidden = _block(hidden, block, vision.config.num_attention_heads, width)
        states.append(hidden)
    return openvino.Model(states, [first], "siglip_encoder")


def _block(hidden: Node, block: Any, heads: int, width: int) -> Node:
    hidden = op.add(hidden, _attend(_norm(hidden, block.layer_norm1), block.self_attn, heads, width))
    inner = op.gelu(_linear(_norm(hidden, block.layer_norm2), block.mlp.fc1), "tanh")
    return op.add(hidden, _linear(inner, block.mlp.fc2))


def _attend(normed: Node, attention: Any, heads: int, width: int) -> Node:
    """Self-attention; the scale 1/sqrt(width of a head) is the operation's own."""
    query, key, value = (
        _swap(op.reshape(_linear(normed, each), _integers(0, 0, heads, width // heads), special_zero=True))
        for each in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = _swap(op.scaled_dot_product_attention(query, key, value, causal=False))
    return _linear(op.reshape(mixed, _integers(0, 0, width), special_zero=True), attention.out_proj)


def _swap(split: Node) -> Node:
    """[batch, a, b, depth] -> [batch, b, a, depth]."""
    return op.transpose(split, _integers(0, 2, 1, 3))


def _norm(hidden: Node, norm: Any) -> Node:
    centred = op.mvn(
        hidden, _integers(-1), normalize_variance=True, eps=float(norm.eps), eps_mode="inside_sqrt"
    )
    return op.add(op.multiply(centred, _weights(norm.weight)), _weights(norm.bias))


def _linear(hidden: Node, linear: Any) -> Node:
    product = op.matmul(hidden, _weights(linear.weight), transpose_a=False, transpose_b=True)
    return op.add(product, _weights(linear.bias))


def _weights(parameter: torch.Tensor) -> Node:
    return op.constant(np.ascontiguousarray(parameter.detach().float().cpu().numpy()))


def _integers(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))
