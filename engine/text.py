"""Texts to token ids, and labels to prompts, exactly as SigLIP was trained to read them."""

import warnings
from collections.abc import Sequence
from typing import Any, Final

import torch

from engine.errors import (
    InvalidArgumentError,
    LabelsIndistinctError,
    LabelsMissingError,
    ModelLoadFailedError,
    TextTruncatedWarning,
)
from engine.shapes import TokenIds

TEXT_POSITIONS: Final = 64


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
    ids = tokenizer(
        lowered,
        padding="max_length",
        max_length=TEXT_POSITIONS,
        truncation=True,
        padding_side="right",
        return_attention_mask=False,
        return_tensors="pt",
    )["input_ids"]
    _check_ids(tokenizer, ids)
    whole = tokenizer(lowered, padding=False, truncation=False, return_attention_mask=False, verbose=False)
    cut = [len(row) > TEXT_POSITIONS for row in whole["input_ids"]]
    if any(cut):
        # how many, not which: warnings end up in logs, and texts are their senders' own.
        # stacklevel: tokenize <- embed_text or embed_labels <- the caller
        warnings.warn(
            f"{sum(cut)} of {len(cut)} texts are longer than {TEXT_POSITIONS} tokens: the rest is left out.",
            TextTruncatedWarning,
            stacklevel=4,
        )
    return ids, cut


def fill_template(template: object, labels: Sequence[str]) -> list[str]:
    """One prompt a label: the label in place of the template's only `{}`.

    Raises:
        InvalidArgumentError: `template` has not exactly one `{}`.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        raise InvalidArgumentError(
            "template", f"needs exactly one {{}} where the label goes, not {template!r}"
        )
    return [template.replace("{}", label) for label in labels]


def check_labels(labels: object) -> list[str]:
    """The labels as a list, once each of them is a text with something in it.

    Raises:
        LabelsMissingError: none, or a blank one.
        InvalidArgumentError: not a sequence of strings.
    """
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise InvalidArgumentError("labels", "expected a list of strings, e.g. ['cat', 'dog']")
    if len(labels) == 0:
        raise LabelsMissingError("labels: give at least one.")
    for index, label in enumerate(labels):
        if not isinstance(label, str):
            raise InvalidArgumentError(
                "labels", f"label {index} is {type(label).__name__}, expected a string"
            )
        if not label.strip():
            raise LabelsMissingError(f"labels: label {index} is blank.")
    return list(labels)


def check_distinct(labels: Sequence[str], ids: TokenIds) -> None:
    """Refuse labels that the model cannot tell apart.

    "Dog" and "dog!" are one text to a tokenizer that drops case and punctuation, and two labels beyond the
    64th token too: their scores would tie at every layer and the winner would be the order of the list.

    Raises:
        LabelsIndistinctError: names the first such pair.
    """
    seen: dict[tuple[int, ...], int] = {}
    for index, row in enumerate(ids.tolist()):
        first = seen.setdefault(tuple(row), index)
        if first != index:
            raise LabelsIndistinctError(
                f"labels: {labels[first]!r} (label {first}) and {labels[index]!r} (label {index}) have equal "
                "token ids, so this model cannot tell them apart: remove or reword one."
            )


def _check_ids(tokenizer: Any, ids: torch.Tensor) -> None:
    end = tokenizer.eos_token_id
    if ids.shape[-1] != TEXT_POSITIONS or end is None or not bool((ids == end).any(dim=-1).all()):
        raise ModelLoadFailedError(
            f"The tokenizer {type(tokenizer).__name__} does not end and pad texts to {TEXT_POSITIONS} "
            "tokens. Its files are not those of a SigLIP checkpoint: fetch the tokenizer files again."
        )
