"""What the page about scale says was measured is what the benchmarks wrote down."""

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| [^|]+ \| ([0-9.,]+)[^|]* \| `([a-z0-9_-]+)` \| `([^`]+)` \|$", re.MULTILINE)
MEASURED = ROW.findall((ROOT / "docs" / "architecture" / "7-scale.md").read_text())


def test_the_page_has_measurements() -> None:
    assert len(MEASURED) > 12


@pytest.mark.parametrize(
    ("told", "file", "key"), MEASURED, ids=[f"{file}/{key}" for _, file, key in MEASURED]
)
def test_a_number_is_the_one_in_its_file(told: str, file: str, key: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / f"{file}.json").read_text())
    found: Any = reduce(
        lambda part, name: part[int(name) if isinstance(part, list) else name], key.split("/"), results
    )
    assert float(told.replace(",", "")) == pytest.approx(found, rel=0.01)
