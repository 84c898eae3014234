"""A saved checkpoint, read with the library alone: independent of the engine, whose lens it can check."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

from demo.captions import photo_of
from demo.drawing import render
from demo.recipe.axes import Directions, Embeddings, Hidden, PatchScores, Scores, TokenIds
from demo.recipe.model import hidden_states
from demo.world import PAIRS, Pair, Scene


class Checkpoint:
    """The model of a folder in float32, with its tokenizer, its image processor and its sizes.

    `side` and `patch` in pixels, `grid` in patches; `scale` is exp(logit_scale).
    """

    def __init__(self, folder: Path) -> None:
        """Load what `folder` holds."""
        self._model: Any = SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._processor: Any = AutoImageProcessor.from_pretrained(folder)
        self._vision = self._model.vision_model
        config = self._model.config.vision_config
        self.side: int = config.image_size
        self.patch: int = config.patch_size
        self.grid = self.side // self.patch
        self.depth: int = config.num_hidden_layers
        self.scale: float = self._model.logit_scale.exp().item()
        self.bias: float = self._model.logit_bias.item()
        self.pairs = self.embed([photo_of(pair) for pair in PAIRS])

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Directions:
        """Unit vectors [text, width]."""
        ids: TokenIds = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"]
        unit: Directions = functional.normalize(self._model.text_model(input_ids=ids).pooler_output, dim=-1)
        return unit

    @torch.no_grad()
    def stream(self, scenes: Iterable[Scene], drawn_at: int | None = None) -> list[Hidden]:
        """Every layer's hidden states of scenes drawn `drawn_at` pixels large, else at the model's size."""
        pictures = [render(scene, drawn_at or self.side) for scene in scenes]
        pixel_values = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        return list(hidden_states(self._vision, pixel_values))

    @torch.no_grad()
    def pool(self, hidden: Hidden) -> Embeddings:
        """What the head reads in all patches of a layer together, as unit vectors [scene, width]."""
        read = self._vision.head(self._vision.post_layernorm(hidden))
        unit: Embeddings = functional.normalize(read, dim=-1)
        return unit

    def score(self, seen: Embeddings, said: Directions) -> Scores:
        """Logits of unit vectors with unit vectors of texts."""
        return seen @ said.T * self.scale + self.bias

    def score_patches(self, hidden: Hidden, said: Directions) -> PatchScores:
        """Logits [scene, patch, text] of what the head reads in each patch alone."""
        scenes, patches, width = hidden.shape
        alone = self.pool(hidden.reshape(scenes * patches, 1, width))
        return self.score(alone, said).reshape(scenes, patches, len(said))


def index_of(pair: Pair) -> int:
    """The row of a pair in `Checkpoint.pairs`."""
    return PAIRS.index(pair)


def mean(values: Any, digits: int = 3) -> float:
    """The mean of numbers of any shape, rounded."""
    return round(float(torch.as_tensor(values, dtype=torch.float64).mean()), digits)
