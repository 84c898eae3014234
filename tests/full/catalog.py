"""What is known of the eleven checkpoints, read for the tests a second time."""

import json
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "engine" / "checkpoints.json"


@dataclass(frozen=True)
class Facts:
    """One checkpoint's."""

    name: str
    family: str
    image_size: int
    patch_size: int
    grid: int
    patch_tokens: int
    hidden_size: int
    layers: int
    attention_heads: int
    mlp_size: int
    text_vocab_size: int
    vision_parameters: int


def read_facts() -> list[Facts]:
    """Those of all eleven."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))["checkpoints"]
    known = set(Facts.__dataclass_fields__)
    return [
        Facts(name=row["checkpoint"], **{key: value for key, value in row.items() if key in known})
        for row in table
    ]
