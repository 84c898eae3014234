"""What an ingestion came to, in a sentence: one that added nothing must not look like one that did."""

from collections.abc import Mapping
from typing import Any, Final

OTHERS: Final = {"there": "there already", "failed": "failed", "skipped": "passed over"}
"""How those that were not added are told of."""


def ingested(counts: Mapping[str, Any]) -> str:
    """How many were added of a source, and what became of the others."""
    others = [f"{counts[name]:,} {said}" for name, said in OTHERS.items() if counts.get(name)]
    if counts["added"]:
        return ", ".join([f"{counts['added']:,} added", *others])
    return f"Nothing was added: {', '.join(others) or 'there was nothing in it'}"
