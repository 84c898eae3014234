"""By what a kept text is found again: equal only where its embedding would be computed alike."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.directions import TextTower
from engine.text import TEXT_POSITIONS

IDS = torch.arange(2 * TEXT_POSITIONS).reshape(2, TEXT_POSITIONS)
TOWER = TextTower(
    tokenizer=None,
    encode=lambda ids: iter([ids.float()]),
    width=4,
    checkpoint_sha256="weights",
    runtime="torch",
    dtype="float32",
    float32_precision="highest",
    device="cpu",
)


def test_a_key_is_of_the_tokens() -> None:
    first, second = TOWER.keys(IDS)
    assert first != second
    assert TOWER.keys(IDS.flip(0)) == [second, first]


@pytest.mark.parametrize(
    "other",
    [
        {"checkpoint_sha256": "others"},
        {"runtime": "compiled"},
        {"dtype": "bfloat16"},
        {"float32_precision": "medium"},
        {"device": "cuda"},
    ],
)
def test_a_key_is_of_all_that_the_embedding_depends_on(other: dict[str, Any]) -> None:
    assert not set(TOWER.keys(IDS)) & set(replace(TOWER, **other).keys(IDS))
