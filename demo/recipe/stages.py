"""What the demo checkpoint is: its sizes, and the four stages it was trained in.

Stages count steps, not seconds, so that a slower machine makes the same model.
"""

import math
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """The dimensions of the model; `image` and `patch` in pixels, `mlp` in widths."""

    width: int = 128
    vision_layers: int = 6
    vision_heads: int = 4
    text_layers: int = 3
    text_heads: int = 2
    mlp: int = 4
    text_mlp: int = 2
    image: int = 80
    patch: int = 8
    positions: int = 64

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image // self.patch


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training with an optimizer of its own and a data seed of its own.

    - `cosine_steps`: length of the cosine that the stage is the first part of.
    - `ramp_steps`: over these, `level` (how hard the scenes are) and `shape_only` (the share of captions
      that leave the colour out) go from their first value to their second.
    - `betrayal`: weights of the false and the true labels that would betray a held-out pair, see
      `demo.recipe.matching.betraying`.
    """

    seed: int
    steps: int
    learning_rate: float
    cosine_steps: int
    warmup_steps: int
    texts: int
    ramp_steps: int
    level: tuple[float, float]
    shape_only: tuple[float, float]
    betrayal: tuple[float, float]


STAGES: Final = (
    Stage(
        seed=0,
        steps=2560,
        learning_rate=1e-3,
        cosine_steps=6800,
        warmup_steps=200,
        texts=48,
        ramp_steps=3700,
        level=(0.0, 1.0),
        shape_only=(0.45, 0.25),
        betrayal=(1.0, 1.0),
    ),
    Stage(
        seed=1,
        steps=2960,
        learning_rate=1e-3,
        cosine_steps=5000,
        warmup_steps=100,
        texts=32,
        ramp_steps=2250,
        level=(0.35, 1.0),
        shape_only=(0.5, 0.3),
        betrayal=(0.0, 1.0),
    ),
    Stage(
        seed=2,
        steps=2000,
        learning_rate=6e-4,
        cosine_steps=2360,
        warmup_steps=50,
        texts=32,
        ramp_steps=1,
        level=(1.0, 1.0),
        shape_only=(0.3, 0.3),
        betrayal=(0.0, 0.0),
    ),
    Stage(
        seed=3,
        steps=1284,
        learning_rate=4e-4,
        cosine_steps=1284,
        warmup_steps=50,
        texts=32,
        ramp_steps=1,
        level=(1.0, 1.0),
        shape_only=(0.3, 0.3),
        betrayal=(0.2, 0.2),
    ),
)


def shorten(stage: Stage, scale: float) -> Stage:
    """The stage with all its steps multiplied by `scale`, at least one of each."""
    return replace(
        stage,
        steps=max(1, round(stage.steps * scale)),
        cosine_steps=max(1, round(stage.cosine_steps * scale)),
        warmup_steps=max(1, round(stage.warmup_steps * scale)),
        ramp_steps=max(1, round(stage.ramp_steps * scale)),
    )


def learning_rate(stage: Stage, step: int) -> float:
    """A linear rise over the warm-up, times a cosine that falls to a hundredth."""
    warmup = min(1, (step + 1) / stage.warmup_steps)
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / stage.cosine_steps))
    return stage.learning_rate * warmup * fall


def difficulty(stage: Stage, step: int) -> tuple[float, float]:
    """The level of the scenes and the share of shape-only captions at a step."""
    share = min(1.0, step / stage.ramp_steps)

    def between(ends: tuple[float, float]) -> float:
        return ends[0] * (1 - share) + ends[1] * share

    return between(stage.level), between(stage.shape_only)
