"""Storing many pictures: a disk that is asked to write several at once takes less time for each."""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from jobs.blobs import BlobStore

THREADS: Final = 8
PENDING_BYTES: Final = 64 * 2**20
"""So much is held at most until it is written."""


class Keeper:
    """Stores pictures of a tenant meanwhile; none counts as stored before `wait` has returned."""

    def __init__(self, blobs: BlobStore, tenant: str) -> None:
        """Start no thread yet."""
        self._blobs = blobs
        self._tenant = tenant
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="keeper")
        self._pending: deque[tuple[Future[str], int]] = deque()
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def keep(self, data: bytes) -> str:
        """Begin to store a picture; returns its SHA-256.

        Raises:
            BlobStoreFullError, BlobStoreMissingError: one before it could not be stored.
        """
        while self._pending and self._pending_bytes + len(data) > PENDING_BYTES:
            self._settle_first()
        self._pending.append((self._pool.submit(self._blobs.put, self._tenant, data), len(data)))
        self._pending_bytes += len(data)
        return hashlib.sha256(data).hexdigest()

    def wait(self) -> None:
        """Wait until all of them are stored.

        Raises:
            BlobStoreFullError, BlobStoreMissingError: one could not be.
        """
        while self._pending:
            self._settle_first()

    def _settle_first(self) -> None:
        stored, size = self._pending.popleft()
        self._pending_bytes -= size
        stored.result()
