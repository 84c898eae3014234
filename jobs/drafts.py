"""Files of the blob store that come in piece by piece, from whoever has them: kept whole, or left nowhere.

`BlobStore.write` takes its pieces from an iterator. A draft is given them, and may be given up at any time.
"""

import errno
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobs.blobs import DRAFTS, BlobStore, sync_folder
from jobs.errors import BlobStoreFullError

SYNCED_BYTES: Final = 64 * 2**20
"""So often what was written goes to the disk: the last sync of many gigabytes would take minutes."""


class Draft:
    """A file that is being written, with its SHA-256; safe to be given up while a thread writes to it."""

    def __init__(self, blobs: BlobStore) -> None:
        """A draft that is nowhere yet."""
        self._blobs = blobs
        self._path = blobs.folder / DRAFTS / uuid.uuid4().hex
        self._hashed = hashlib.sha256()
        self._unsynced = 0
        # its number may be another file's as soon as it is closed: a write that is under way ends first
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._given_up = False
        self.size_bytes = 0

    def begin(self) -> None:
        """Begin the file, empty; unless it was given up before that.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
            BlobStoreMissingError: the store is not there.
        """
        with self._lock, _refusing_if_full():
            if self._given_up:
                return
            self._blobs.check()
            self._blobs.make_folder(self._path.parent)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def sha256(self) -> str:
        """Of all that was written, in hex."""
        return self._hashed.hexdigest()

    def write(self, piece: bytes | bytearray) -> None:
        """Write a piece behind the others.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
            ValueError: it was given up, or kept.
        """
        with self._lock, _refusing_if_full():
            descriptor = self._open()
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
            self._hashed.update(piece)
            self.size_bytes += len(piece)
            self._unsynced += len(piece)
            if self._unsynced >= SYNCED_BYTES:
                os.fdatasync(descriptor)
                self._unsynced = 0

    def keep(self, target: Path) -> None:
        """Have it under its name, durably: synced, then renamed.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
            ValueError: it was given up, or kept.
        """
        with self._lock, _refusing_if_full():
            os.fsync(self._open())
            self._blobs.make_folder(target.parent)
            self._path.rename(target)
            self._close()
            sync_folder(target.parent)

    def give_up(self) -> None:
        """Leave nothing of it, unless it was kept."""
        with self._lock:
            self._given_up = True
            if self._descriptor is not None:
                self._close()
                self._path.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the draft was given up, or kept")
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._open(), None
        os.close(descriptor)


@contextmanager
def _refusing_if_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise BlobStoreFullError from error
        raise
