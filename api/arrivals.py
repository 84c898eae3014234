"""Files that go from a body into the blob store as they come: no more than a piece of one is held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobs.blobs import BlobStore
from jobs.drafts import Draft

PIECE_BYTES: Final = 2**20
"""So much is written at once, by a thread."""


class Arrivals:
    """The files of one request, by the names of their parts, one of which is being written."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._piece = bytearray()
        self._last: Draft | None = None
        self.drafts: dict[str, Draft] = {}
        self.filenames: dict[str, str | None] = {}

    async def begin(self, name: str, filename: str | None) -> None:
        """Have what is written from now on in a file of its own.

        Raises:
            BlobStoreFullError, BlobStoreMissingError: as `Draft.begin`.
        """
        await self.end()
        # known before there is a file: who goes meanwhile leaves it to the thread, which then begins none
        self._last = self.drafts[name] = Draft(self._blobs)
        self.filenames[name] = filename
        await asyncio.to_thread(self._last.begin)

    async def write(self, data: bytes) -> None:
        """Write behind what came before.

        Raises:
            BlobStoreFullError: the disk is full.
        """
        self._piece += data
        if len(self._piece) >= PIECE_BYTES:
            await self.end()

    async def end(self) -> None:
        """Write what is still held.

        Raises:
            BlobStoreFullError: the disk is full.
        """
        if self._last is not None and self._piece:
            piece, self._piece = self._piece, bytearray()
            await asyncio.to_thread(self._last.write, piece)

    def give_up(self) -> None:
        """Leave nothing of what was not kept."""
        for draft in self.drafts.values():
            draft.give_up()


@asynccontextmanager
async def arriving(blobs: BlobStore) -> AsyncIterator[Arrivals]:
    """Files that are coming; those that the block has not kept when it ends are nowhere."""
    arrivals = Arrivals(blobs)
    try:
        yield arrivals
    finally:
        await asyncio.to_thread(arrivals.give_up)
