"""The arrays of one item as files, read back from the store."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jobs.errors import NoOutputError
from jobs.objects import ObjectName, Span

PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "patch": ("patch", "scores"),
    "probe_attention": ("probe_attention", "array"),
    "contribution": ("contribution", "patches"),
    "contribution_bias": ("contribution", "bias"),
    "contribution_mlp": ("contribution", "mlp"),
    "token_norms": ("token_norms", "array"),
    "embeddings": ("embeddings", "array"),
    "activations": ("activations", "array"),
}
"""By the name of a file: the output that it is of, and which of its stored parts."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A file of an item: where its bytes lie, and what it is called when it is kept."""

    object: ObjectName
    span: Span
    file_name: str


def array_of(
    tenant: str, job_id: uuid.UUID, index: int, payload: Mapping[str, Any] | None, name: str
) -> StoredArray:
    """The file of this name of one of a tenant's items, from what its payload says.

    Raises:
        NoOutputError: there is none; it says which there are.
    """
    there = names_of(payload)
    if payload is None or not there:
        raise NoOutputError
    if name not in there:
        raise NoOutputError(f"This item has no output of that name; there are: {', '.join(there)}.")
    output, part = PARTS[name]
    stored = payload[output]["stored"]
    # what is written as .npy has no other word for it
    ending = payload[output].get("format", "npy")
    return StoredArray(
        object=ObjectName(tenant, job_id, uuid.UUID(stored["object"])),
        span=Span(*stored[part]),
        file_name=f"item-{index}-{name}.{ending}",
    )


def names_of(payload: Mapping[str, Any] | None) -> list[str]:
    """The files that an item has."""
    return [name for name, (output, _) in PARTS.items() if output in (payload or {})]
