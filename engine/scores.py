"""What is made of cosines: logits, probabilities, ranks."""

import numpy as np
import torch
from numpy.typing import NDArray

from engine.shapes import KeptLabels, LabelRanks, LayerScores

Numbers = NDArray[np.float32]


def logits(cosine: Numbers, scale: float, bias: float) -> Numbers:
    """Cosines times `scale` plus `bias`, in float32; `scale` is exp(logit_scale)."""
    return np.asarray(np.float32(scale) * cosine + np.float32(bias), dtype=np.float32)


def sigmoid(logit: Numbers) -> Numbers:
    """1 / (1 + exp(-logit)), without overflow."""
    return torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logit))).numpy()


def softmax(logit: Numbers, among: NDArray[np.bool_]) -> Numbers:
    """Shares of the labels [label] that compete, on the last axis: they add up to 1; NaN of the others.

    What is added to all is lost.
    """
    competing = torch.from_numpy(np.where(among, logit, np.float32(-np.inf)))
    return np.where(among, torch.softmax(competing, dim=-1).numpy(), np.float32(np.nan))


def rank_labels(cosine: LayerScores, kept: KeptLabels) -> LabelRanks:
    """The place of each kept label among all labels at each layer, from 1, the best.

    Of labels that tie the one with the lower index comes first. What is not a number has no place: 0.
    """
    places = np.arange(cosine.shape[2])
    ranks = np.empty((*cosine.shape[:2], kept.shape[1]), dtype=np.int64)
    # a picture at a time: of many labels, the comparisons of all would be large
    for image, (scores, labels) in enumerate(zip(cosine, kept, strict=True)):
        own = scores[:, labels, None]
        before = (scores[:, None] > own) | ((scores[:, None] == own) & (places < labels[:, None]))
        ranks[image] = np.where(np.isnan(own[..., 0]), 0, 1 + before.sum(axis=2))
    return ranks
