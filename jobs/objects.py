"""What is too large for a row: one object a work unit, in its job's folder, named by the lease token.

A worker that comes back late writes under its own token, so it can never overwrite what a row refers to; and
whatever it left behind goes with the folder of the job.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError

PIECE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Span:
    """Where a part lies in its object, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Whose object it is, and the lease that it was written under."""

    tenant: str
    job_id: uuid.UUID
    token: uuid.UUID

    def path(self, blobs: BlobStore) -> Path:
        """Where it lies."""
        return _folder(blobs, self.tenant, self.job_id) / self.token.hex


def put_object(blobs: BlobStore, name: ObjectName, parts: Iterable[bytes]) -> list[Span]:
    """Store the parts of a unit, end to end, as its object; durable when this returns.

    Each part is read when it is written, and let go.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    spans: list[Span] = []

    def measured() -> Iterator[bytes]:
        end = 0
        for part in parts:
            spans.append(Span(end, len(part)))
            end += len(part)
            yield part

    blobs.write(name.path(blobs), measured())
    return spans


def put_files(blobs: BlobStore, name: ObjectName, files: Sequence[Path]) -> list[Span]:
    """Store whole files, end to end, as one object; read piece by piece, and durable when this returns.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    ends = list(accumulate(file.stat().st_size for file in files))
    spans = [
        Span(end - file.stat().st_size, file.stat().st_size) for file, end in zip(files, ends, strict=True)
    ]

    def pieces() -> Iterator[bytes]:
        for file, span in zip(files, spans, strict=True):
            yield from _pieces(file.open("rb"), Span(0, span.length))

    blobs.write(name.path(blobs), pieces())
    return spans


def read_span(blobs: BlobStore, name: ObjectName, span: Span) -> bytes:
    """One part of an object.

    Raises:
        BlobMissingError: there is no such object, or it ends before the part does.
        BlobStoreMissingError: the store is not there.
    """
    with _open(blobs, name) as file:
        file.seek(span.offset)
        part = file.read(span.length)
    if len(part) != span.length:
        raise BlobMissingError
    return part


def stream_span(blobs: BlobStore, name: ObjectName, span: Span) -> Iterator[bytes]:
    """One part of an object piece by piece: some are too large to be held.

    Whether it is there is found out before the first piece.

    Raises:
        BlobMissingError: there is no such object, or it ends before the part does.
        BlobStoreMissingError: the store is not there.
    """
    file = _open(blobs, name)
    if os.fstat(file.fileno()).st_size < span.offset + span.length:
        file.close()
        raise BlobMissingError
    return _pieces(file, span)


def remove_objects(blobs: BlobStore, tenant: str, job_id: uuid.UUID) -> None:
    """Remove all objects of a job, also those that no row refers to."""
    # there are none where no lens was asked for; any other fault is told, or they would stay for ever
    with suppress(FileNotFoundError):
        shutil.rmtree(_folder(blobs, tenant, job_id))


def _open(blobs: BlobStore, name: ObjectName) -> BinaryIO:
    try:
        return name.path(blobs).open("rb")
    except FileNotFoundError:
        blobs.check()
        raise BlobMissingError from None


def _pieces(file: BinaryIO, span: Span) -> Iterator[bytes]:
    with file:
        file.seek(span.offset)
        left = span.length
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece


def _folder(blobs: BlobStore, tenant: str, job_id: uuid.UUID) -> Path:
    # the last digits of a uuid7 are random, the first ones a clock: they would fill one folder at a time
    return blobs.room(tenant) / "objects" / job_id.hex[-2:] / job_id.hex
