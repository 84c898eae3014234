"""Copies of results as files, from which parts are handed out: of each tenant those that were used last.

They lie in one folder of the tenant, apart from what rows refer to: each can be made again, the same byte for
byte, and goes with the results of its job.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from jobs.blobs import BlobStore
from jobs.objects import ObjectName

log = structlog.get_logger()

FOLDER: Final = "copies"


@dataclass(frozen=True, slots=True)
class CopyName(ObjectName):
    """Whose copy it is, and what tells it from other copies of the job."""

    def path(self, blobs: BlobStore) -> Path:
        """Where it lies."""
        return _folder(blobs, self.tenant) / f"{self.job_id.hex}-{self.token.hex}"


def use_copy(blobs: BlobStore, name: CopyName) -> int | None:
    """How large a copy is, which counts as used just now; None when there is none."""
    path = name.path(blobs)
    try:
        os.utime(path)
        return path.stat().st_size
    except FileNotFoundError:
        return None


def remove_copies(blobs: BlobStore, tenant: str, job_id: uuid.UUID) -> None:
    """Remove all copies of a job."""
    for path in _folder(blobs, tenant).glob(f"{job_id.hex}-*"):
        path.unlink(missing_ok=True)


def trim_copies(blobs: BlobStore, newest: CopyName, most_bytes: int) -> int:
    """Remove the copies of a tenant that were used longest ago, until the rest have so many bytes at most.

    The newest stays, however large; whoever is reading one that goes reads it to its end. Returns how many
    went.
    """
    kept_bytes = removed = 0
    kept = newest.path(blobs)
    for path, size_bytes in _by_use(_folder(blobs, newest.tenant)):
        kept_bytes += size_bytes
        if kept_bytes > most_bytes and path != kept:
            path.unlink(missing_ok=True)
            removed += 1
    if removed:
        log.info("copies.removed", files=removed)
    return removed


def _by_use(folder: Path) -> list[tuple[Path, int]]:
    """The copies that are there, the one that was used last first, and their sizes in bytes."""
    found = []
    for path in folder.glob("*-*"):
        try:
            about = path.stat()
        except FileNotFoundError:
            # another process removed it
            continue
        found.append((about.st_mtime_ns, path, about.st_size))
    return [(path, size_bytes) for _, path, size_bytes in sorted(found, reverse=True)]


def _folder(blobs: BlobStore, tenant: str) -> Path:
    return blobs.room(tenant) / FOLDER
