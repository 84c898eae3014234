"""Texts to token ids and on to embeddings, exactly as SigLIP was trained to read them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, Final

import torch

from engine.arguments import memory_errors
from engine.errors import ModelLoadFailedError, TextTruncatedWarning
from engine.shapes import TextEmbeddings, TokenIds

TEXT_POSITIONS: Final = 64
TEXT_BATCH: Final = 64

# how a call pads and truncates is state of the fast tokenizers: another thread's call would take it over
_TOKENIZING: Final = Lock()


def tokenize(tokenizer: Any, texts: Sequence[str]) -> tuple[TokenIds, list[bool]]:
    """Token ids [text, 64] and, for each text, whether its end was cut off.

    SigLIP pools at the last position without an attention mask, so padding is part of the input: always to
    64, on the right, and no mask. Both families were trained on lower-cased text, and not every tokenizer
    class they are published with does it, so it is done here. A cut text warns and keeps its end token
    (the "sticky" end in big_vision's `pp/ops_text.py`).

    Raises:
        ModelLoadFailedError: the tokenizer does not give 64 positions or loses the end token.
    """
    lowered = [text.lower() for text in texts]
    with _TOKENIZING:
        ids = tokenizer(
            lowered,
            padding="max_length",
            max_length=TEXT_POSITIONS,
            truncation=True,
            padding_side="right",
            return_attention_mask=False,
            return_tensors="pt",
        )["input_ids"]
        whole = tokenizer(
            lowered, padding=False, truncation=False, return_attention_mask=False, verbose=False
        )
    _check_ids(tokenizer, ids)
    cut = [len(row) > TEXT_POSITIONS for row in whole["input_ids"]]
    if any(cut):
        # how many, not which: warnings end up in logs, and texts are their senders' own.
        # stacklevel: tokenize <- embed_directions <- embed_labels <- the caller
        warnings.warn(
            f"{sum(cut)} of {len(cut)} texts are longer than {TEXT_POSITIONS} tokens: the rest is left out.",
            TextTruncatedWarning,
            stacklevel=4,
        )
    return ids, cut


@torch.no_grad()
def encode(
    tower: Any, ids: TokenIds, device: torch.device, step: Callable[[], None] | None = None
) -> Iterator[TextEmbeddings]:
    """Token ids [text, 64] through the text tower: embeddings [TEXT_BATCH or fewer, width], on the CPU.

    `step` is called before each pass. Input ids only: a mask would change what is pooled.

    Raises:
        OutOfMemoryError: the device had no room.
        ModelLoadFailedError: a token that the checkpoint has no embedding for.
    """
    vocabulary = tower.config.vocab_size
    if len(ids) and int(ids.max()) >= vocabulary:
        # here, not on the device: a GPU would be lost to the whole process
        raise ModelLoadFailedError(
            f"The tokenizer gives token {int(ids.max())}, the checkpoint embeds {vocabulary}. Its files are"
            " not those of this checkpoint: fetch the tokenizer files again."
        )
    for part in torch.split(ids, TEXT_BATCH):
        if step is not None:
            step()
        with memory_errors():
            rows = tower(input_ids=part.to(device)).pooler_output.cpu()
        yield rows


def _check_ids(tokenizer: Any, ids: torch.Tensor) -> None:
    end = tokenizer.eos_token_id
    if ids.shape[-1] != TEXT_POSITIONS or end is None or not bool((ids == end).any(dim=-1).all()):
        raise ModelLoadFailedError(
            f"The tokenizer {type(tokenizer).__name__} does not end and pad texts to {TEXT_POSITIONS} "
            "tokens. Its files are not those of a SigLIP checkpoint: fetch the tokenizer files again."
        )
