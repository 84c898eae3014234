"""The files that a job made, such as a summary: what its item says of them, and where they lie."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.blobs import BlobStore
from jobs.errors import NoOutputError
from jobs.objects import ObjectName, Span, put_files


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file in a scratch folder that is to be kept; `sha256` is that of its bytes."""

    path: Path
    media_type: str
    sha256: str


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of a job: where its bytes lie, and what they are."""

    object: ObjectName
    span: Span
    name: str
    media_type: str
    sha256: str


def made_file(path: Path, media_type: str, sha256: str | None = None) -> MadeFile:
    """The file at `path`, whose bytes are read for their hash unless that is known."""
    if sha256 is not None:
        return MadeFile(path, media_type, sha256)
    with path.open("rb") as file:
        return MadeFile(path, media_type, hashlib.file_digest(file, "sha256").hexdigest())


def keep_files(blobs: BlobStore, name: ObjectName, files: Sequence[MadeFile]) -> dict[str, Any]:
    """Store files of an item end to end as one object; returns what the item's payload says of them.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    spans = put_files(blobs, name, [file.path for file in files])
    return {
        file.path.name: {
            "media_type": file.media_type,
            "size_bytes": span.length,
            "sha256": file.sha256,
            "stored": {"object": name.token.hex, "span": [span.offset, span.length]},
        }
        for file, span in zip(files, spans, strict=True)
    }


def file_of(tenant: str, job_id: uuid.UUID, payload: Mapping[str, Any] | None, name: str) -> KeptFile:
    """The file of this name of one of a tenant's items, from what its payload says.

    Raises:
        NoOutputError: there is none; it says which there are.
    """
    files = (payload or {}).get("files", {})
    if name not in files:
        known = f"; there are: {', '.join(files)}" if files else ""
        raise NoOutputError(f"This job has no file of that name{known}.")
    told = files[name]
    return KeptFile(
        object=ObjectName(tenant, job_id, uuid.UUID(told["stored"]["object"])),
        span=Span(*told["stored"]["span"]),
        name=name,
        media_type=told["media_type"],
        sha256=told["sha256"],
    )
