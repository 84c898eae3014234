"""One step of training: scores, SigLIP's sigmoid loss on pictures and on windows, and the optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import torch
from torch.nn import functional

from demo.recipe.axes import Masks, PixelValues, ScenePixels, TokenIds, ViewScores
from demo.recipe.batches import Batch
from demo.recipe.model import hidden_states, read_windows
from demo.recipe.stages import Stage, learning_rate

Encode = Callable[[Sequence[str]], TokenIds]

LOCAL_WEIGHT: Final = 1.0
WEIGHT_DECAY: Final = 0.05
LARGEST_GRADIENT: Final = 1.0
KNOWN_TEXTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Learned:
    """What a step tells of itself, of whole pictures and of windows.

    Losses are means over pictures (or windows) and texts; recall is the share of the true labels that got a
    logit above 0.
    """

    loss: float
    local_loss: float
    recall: float
    local_recall: float


def remember_ids(tokenizer: Any, positions: int) -> Encode:
    """Texts to token ids [text, position]; most captions come again and again."""

    @lru_cache(maxsize=KNOWN_TEXTS)
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, padding="max_length", truncation=True, max_length=positions)[
            "input_ids"
        ]
        return ids

    return lambda texts: torch.tensor([encode(text) for text in texts])


def build_optimizer(model: Any, stage: Stage) -> torch.optim.Optimizer:
    """AdamW that lets matrices decay, but no embedding, no probe, no bias and no norm."""
    decaying: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and "embedding" not in name and "probe" not in name
        (decaying if decays else others).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": WEIGHT_DECAY},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def learn(
    model: Any, optimizer: torch.optim.Optimizer, encode: Encode, stage: Stage, step: int, batch: Batch
) -> Learned:
    """Change the model by what one batch says."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(stage, step)
    labels = torch.from_numpy(batch.labels)
    true, weights = labels.sign(), labels.abs()
    scores = score(
        model, _to_pixel_values(batch.pixels), torch.from_numpy(batch.windows), encode(batch.texts)
    )
    losses = -functional.logsigmoid(true * scores) * weights
    scenes, windows, texts = losses.shape
    loss = losses[:, 0].sum() / scenes
    local = losses[:, 1:].sum() / (scenes * (windows - 1))
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss + LOCAL_WEIGHT * local)
    torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return Learned(
        loss=loss.item() / texts,
        local_loss=local.item() / texts,
        recall=_recall(scores[:, :1], true[:, :1]),
        local_recall=_recall(scores[:, 1:], true[:, 1:]),
    )


def score(model: Any, pixel_values: PixelValues, windows: Masks, ids: TokenIds) -> ViewScores:
    """Logits of each text in the whole picture, then in each of `windows`."""
    vision = model.vision_model
    whole = torch.ones_like(windows[:, :1])
    with torch.autocast("cpu", torch.bfloat16):
        *_, last = hidden_states(vision, pixel_values)
        seen = read_windows(vision, vision.post_layernorm(last), torch.cat([whole, windows], dim=1))
        said = model.text_model(input_ids=ids).pooler_output
    seen = functional.normalize(seen.float(), dim=-1)
    said = functional.normalize(said.float(), dim=-1)
    scores: torch.Tensor = seen @ said.T * model.logit_scale.exp() + model.logit_bias
    return scores


def _to_pixel_values(pixels: ScenePixels) -> PixelValues:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def _recall(scores: torch.Tensor, true: torch.Tensor) -> float:
    return (((scores > 0) & (true > 0)).sum() / (true > 0).sum()).item()
