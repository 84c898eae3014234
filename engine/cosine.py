"""Cosines, in float32 whatever came in."""

import torch

from engine.shapes import TextEmbeddings, Vectors


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row divided by its norm, in float32 whatever came in."""
    wide: torch.Tensor = vectors.to(torch.float32)
    lengths: torch.Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / lengths


def cosines(embeddings: Vectors, directions: TextEmbeddings) -> torch.Tensor:
    """Cosine [..., label] of embeddings [..., width] with unit label vectors, in float32."""
    scores: torch.Tensor = unit_rows(embeddings) @ directions.T
    return scores
