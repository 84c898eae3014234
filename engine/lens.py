"""The logit lens: what the checkpoint's own head reads at each layer, scored against labels.

Layer l in 0..L is hidden_states[l]: 0 is patch plus position embedding, l is after block l, L is before
the final norm. The pooled lens of layer l is e_l = head(post_layernorm(hidden_states[l])), the head as
trained for layer L; its score for a label is the cosine of e_l with the label's text embedding (Zhai et al.
2023, "Sigmoid Loss for Language Image Pre-Training", for the score; nostalgebraist 2020 for the lens). Low
scores do not show that a layer lacks the information, and no lens is causal evidence.
"""

from dataclasses import dataclass

import numpy as np
import torch

from engine.shapes import (
    FinalScores,
    ImageFlags,
    ImageLayers,
    ImageNumbers,
    ImageVectors,
    LabelFlags,
    LabelVectors,
    LayerScores,
    Pooled,
    TextEmbeddings,
    TopLabels,
)


@dataclass(frozen=True)
class LabelDirections:
    """Labels as unit vectors: computed once a label set, used for every picture.

    `unit` is [label, width] float32 of norm 1, `prompts` the texts that were embedded, `truncated` tells
    whose prompt was cut at 64 tokens. They belong to the weights named by `weights_sha256` and to no others.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    unit: LabelVectors
    truncated: LabelFlags
    weights_sha256: str


@dataclass(frozen=True)
class Lens:
    """A pooled lens over some pictures.

    - `labels`, `prompts`: name and embedded text of each label.
    - `layers`: the layers that were asked for, ascending; axis 1 of `cosine` and `top`.
    - `cosine` [image, layer, label] float32.
    - `final_logit` [image, label] = exp(logit_scale) * cosine at L + logit_bias, and its sigmoid
      `final_match_probability`: at layer L only, where scale and bias were fitted. The probability that this
      pair matches under training's prior, not a confidence.
    - `top` [image, layer]: index of the best label; a tie goes to the lower index.
    - `tied` [image]: whether the best label at L shares its score.
    - `top_margin` [image]: best minus second cosine at L; None with a single label.
    - `settle_layer` [image]: the smallest layer from which the top label equals the final one; L means "only
      at the end". None unless all layers were asked for.
    - `pooled` [image, width] float32: the image embedding e_L, unnormalised.
    """

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    layers: tuple[int, ...]
    cosine: LayerScores
    final_logit: FinalScores
    final_match_probability: FinalScores
    top: TopLabels
    tied: ImageFlags
    top_margin: ImageNumbers | None
    settle_layer: ImageLayers | None
    pooled: ImageVectors


def unit_rows(vectors: Pooled | TextEmbeddings) -> torch.Tensor:
    """Each row divided by its norm, in float32 whatever came in."""
    wide: torch.Tensor = vectors.to(torch.float32)
    lengths: torch.Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / lengths


def cosines(embeddings: Pooled, directions: TextEmbeddings) -> torch.Tensor:
    """Cosine [batch, label] of pooled embeddings with unit label vectors, in float32."""
    scores: torch.Tensor = unit_rows(embeddings) @ directions.T
    return scores


def summarize(
    directions: LabelDirections,
    layers: tuple[int, ...],
    depth: int,
    cosine: LayerScores,
    final: FinalScores,
    pooled: ImageVectors,
    scale: float,
    bias: float,
) -> Lens:
    """Everything a lens says, from its cosines.

    `cosine` is [image, layer, label] of the asked layers, `final` [image, label] those of layer L = `depth`,
    `scale` is exp(logit_scale).
    """
    logit = np.float32(scale) * final + np.float32(bias)
    best = final.max(axis=1, keepdims=True)
    ranked = np.sort(final, axis=1)
    return Lens(
        labels=directions.names,
        prompts=directions.prompts,
        layers=layers,
        cosine=cosine,
        final_logit=logit,
        final_match_probability=_sigmoid(logit),
        top=cosine.argmax(axis=2),
        tied=(final == best).sum(axis=1) > 1,
        top_margin=ranked[:, -1] - ranked[:, -2] if final.shape[1] > 1 else None,
        settle_layer=settle_layers(cosine.argmax(axis=2)) if len(layers) == depth + 1 else None,
        pooled=pooled,
    )


def settle_layers(top: TopLabels) -> ImageLayers:
    """For each image the smallest layer from which the top label is the final one, from `top` over 0..L."""
    differs = top != top[:, -1:]
    # Counted from the end: the first difference there ends the settled stretch.
    settled = np.where(
        differs.any(axis=1), np.argmax(differs[:, ::-1], axis=1), np.full(len(top), top.shape[1])
    )
    return np.asarray(top.shape[1] - settled, dtype=np.int64)


def _sigmoid(logit: FinalScores) -> FinalScores:
    result = torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logit))).numpy()
    return np.asarray(result, dtype=np.float32)
