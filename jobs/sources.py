"""What is sent to be ingested, archives and manifests: files of the blob store until all of it is added.

They are apart from pictures and from the objects of jobs: nothing is computed from them twice, and they may
be larger than all that comes of them.
"""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobs.blobs import BlobStore
from jobs.drafts import Draft
from jobs.errors import SourceMissingError

log = structlog.get_logger()

FOLDER: Final = "sources"
KEPT: Final = timedelta(days=7)
"""So long what was not added for whatever reason may be tried again, as one that nobody submitted."""

WANTED: Final = text("""
    SELECT source
    FROM jobs
    JOIN job_inputs ON job_inputs.job_id = jobs.id
    CROSS JOIN LATERAL jsonb_array_elements(items) AS entry
    CROSS JOIN LATERAL (VALUES (entry ->> 'stored'), (entry ->> 'beside')) AS named (source)
    WHERE ended_at IS NULL AND type = 'ingest' AND source IS NOT NULL
""")
"""The sources of jobs that are not done."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A source that lies in the blob store."""

    id: uuid.UUID
    size_bytes: int


def keep_draft(blobs: BlobStore, tenant: str, draft: Draft) -> Stored:
    """Keep what was written piece by piece as a source; durable when this returns, nowhere when it raises.

    Raises:
        BlobStoreFullError: the disk or its quota is full.
    """
    source_id = uuid.uuid4()
    try:
        draft.keep(_path(blobs, tenant, source_id))
    except BaseException:
        remove_source(blobs, tenant, source_id)
        raise
    return Stored(source_id, draft.size_bytes)


def open_source(blobs: BlobStore, tenant: str, source_id: uuid.UUID) -> BinaryIO:
    """A source, to be read and closed.

    Raises:
        SourceMissingError: it is not kept any more.
        BlobStoreMissingError: the store is not there.
    """
    try:
        return _path(blobs, tenant, source_id).open("rb")
    except FileNotFoundError:
        blobs.check()
        raise SourceMissingError from None


def remove_source(blobs: BlobStore, tenant: str, source_id: uuid.UUID) -> None:
    """Remove a source of which all is added."""
    _path(blobs, tenant, source_id).unlink(missing_ok=True)


def remove_sources(session: Session, blobs: BlobStore) -> int:
    """Remove sources that were stored KEPT ago and that no job is still to add; returns how many."""
    old = [path for path in blobs.folder.glob(f"*/{FOLDER}/*") if _age(path) > KEPT.total_seconds()]
    if not old:
        return 0
    wanted = set(session.scalars(WANTED))
    removed = 0
    for path in old:
        if path.name not in wanted:
            path.unlink(missing_ok=True)
            removed += 1
    if removed:
        log.info("sources.removed", files=removed)
    return removed


def _age(path: Path) -> float:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _path(blobs: BlobStore, tenant: str, source_id: uuid.UUID) -> Path:
    return blobs.room(tenant) / FOLDER / source_id.hex
