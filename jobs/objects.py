"""What is too large for a row: one object a work unit, named by the lease token it was written under.

A worker that comes back late writes under its own token, so it can never overwrite what a row refers to. The
objects of a job are those of its completed attempts.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError


@dataclass(frozen=True, slots=True)
class Span:
    """Where a part lies in its object, in bytes."""

    offset: int
    length: int


def put_object(blobs: BlobStore, tenant: str, token: uuid.UUID, parts: Sequence[bytes]) -> list[Span]:
    """Store the parts of a unit, end to end, as its object; durable when this returns.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    spans: list[Span] = []
    end = 0
    for part in parts:
        spans.append(Span(end, len(part)))
        end += len(part)
    blobs.write(_path(blobs, tenant, token), parts)
    return spans


def read_span(blobs: BlobStore, tenant: str, token: uuid.UUID, span: Span) -> bytes:
    """One part of an object.

    Raises:
        BlobMissingError: there is no such object, or it ends before the part does.
    """
    try:
        with _path(blobs, tenant, token).open("rb") as file:
            file.seek(span.offset)
            part = file.read(span.length)
    except FileNotFoundError:
        raise BlobMissingError from None
    if len(part) != span.length:
        raise BlobMissingError
    return part


def _path(blobs: BlobStore, tenant: str, token: uuid.UUID) -> Path:
    # the last digits of a uuid7 are random, the first ones a clock: they would fill one folder at a time
    return blobs.room(tenant) / "objects" / token.hex[-2:] / token.hex
