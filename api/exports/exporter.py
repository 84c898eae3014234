"""Exports in threads: rendered a piece at a time, few at once, so that polls are answered meanwhile."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from sqlalchemy.orm import Session, sessionmaker

from api.errors import PartNotReadyError, TooManyExportsError
from api.exports.allowance import Allowance, Taken
from api.exports.formats import Format
from api.exports.reading import Export
from api.turns import Turns
from jobs import queries
from jobs.blobs import BlobStore
from jobs.copies import CopyName, remove_copies, trim_copies, use_copy
from jobs.errors import ResultsExpiredError
from jobs.objects import put_object
from models.job import Job

log = structlog.get_logger()

PIECES_AT_ONCE: Final = 2
"""Of all exports of a process: what renders in Python takes turns with the event loop. They have threads of
their own: each that ever rendered keeps some MB."""
COPIES_OF_TENANT: Final = 3
"""One that is being made and two that wait: copies are made one at a time, of tenants in turn."""
WAIT_SECONDS: Final = 30.0
"""Many a proxy gives up after a minute without a byte."""


class ClosedError(Exception):
    """The process is to end."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """An export under way, and that it is counted as one until it is given back."""

    pieces: AsyncIterator[bytes]
    taken: Taken


class Exporter:
    """Those who write exports; belongs to one event loop."""

    def __init__(
        self, sessions: sessionmaker[Session], blobs: BlobStore, allowance: Allowance, copy_bytes: int
    ) -> None:
        """Of one tenant's copies, `copy_bytes` are kept."""
        self._sessions = sessions
        self._blobs = blobs
        self._allowance = allowance
        self._copy_bytes = copy_bytes
        self._pieces = ThreadPoolExecutor(PIECES_AT_ONCE, "export")
        self._copies = ThreadPoolExecutor(1, "export-copy")
        self._copy_turns = Turns(1)
        self._storing: dict[CopyName, asyncio.Task[int]] = {}
        self._closed = False

    async def stream(self, key_id: uuid.UUID, job: Job, made: Format) -> Rendering:
        """Begin an export: the first piece is made before this returns, so that what fails at once is told.

        Raises:
            ResultsExpiredError: the results were removed meanwhile; from the iterator too, as all others.
            TooManyExportsError, ExportsBusyError: as many are rendered as may be.
        """
        taken = self._allowance.take(job.tenant, key_id)
        try:
            pieces = made.write(Export(self._sessions, self._blobs, job))
            first = await self._next(pieces)
        except BaseException:
            taken.give_back()
            raise
        return Rendering(self._rest(first, pieces), taken)

    async def find(self, name: CopyName) -> int | None:
        """How large the stored export is; None when there is none."""
        return await asyncio.to_thread(use_copy, self._blobs, name)

    async def store(self, key_id: uuid.UUID, name: CopyName, job: Job, made: Format) -> int:
        """Store an export, unless somebody is about it, and return its size.

        It is finished also when whoever asked goes away: they come back for it.

        Raises:
            TooManyExportsError, ExportsBusyError: as many are rendered as may be, or wait to be.
            BlobStoreFullError: there is no room for it.
            PartNotReadyError: it takes longer than a connection can be expected to stay silent.
            ResultsExpiredError: the results were removed meanwhile.
        """
        if name not in self._storing:
            if sum(other.tenant == name.tenant for other in self._storing) >= COPIES_OF_TENANT:
                raise TooManyExportsError(
                    f"Copies of {COPIES_OF_TENANT} files of this tenant are being made already, as many as"
                    " may be: ask again when one is there, or fetch the whole file."
                )
            taken = self._allowance.take(job.tenant, key_id)
            task = asyncio.create_task(self._store(name, job, made))
            self._storing[name] = task
            task.add_done_callback(partial(self._forget, name, taken))
        try:
            return await asyncio.wait_for(asyncio.shield(self._storing[name]), WAIT_SECONDS)
        except (TimeoutError, ClosedError):
            raise PartNotReadyError from None

    async def close(self) -> None:
        """Have what is being stored end early: half of a file is no use to anybody."""
        self._closed = True
        if self._storing:
            await asyncio.wait(self._storing.values())
        for threads in (self._pieces, self._copies):
            threads.shutdown(wait=False, cancel_futures=True)
        self._sessions.kw["bind"].dispose()

    async def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        return await asyncio.get_running_loop().run_in_executor(self._pieces, next, pieces, None)

    async def _rest(self, piece: bytes | None, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while piece is not None:
            yield piece
            piece = await self._next(pieces)

    async def _store(self, name: CopyName, job: Job, made: Format) -> int:
        async with self._copy_turns.one(name.tenant):
            if self._closed:
                raise ClosedError
            return await asyncio.get_running_loop().run_in_executor(
                self._copies, self._write, name, job, made
            )

    def _write(self, name: CopyName, job: Job, made: Format) -> int:
        pieces = made.write(Export(self._sessions, self._blobs, job))
        spans = put_object(self._blobs, name, self._until_closed(pieces))
        with self._sessions() as session:
            kept = session.scalar(queries.is_kept(job.id))
        if not kept:
            # its time was over while it was written: whoever removes its objects did not see this one
            remove_copies(self._blobs, name.tenant, name.job_id)
            raise ResultsExpiredError
        trim_copies(self._blobs, name, self._copy_bytes)
        return sum(span.length for span in spans)

    def _until_closed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._closed:
                raise ClosedError
            yield piece

    def _forget(self, name: CopyName, taken: Taken, task: "asyncio.Task[int]") -> None:
        taken.give_back()
        del self._storing[name]
        # nobody may be there any more to hear of it
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("export.not_stored", job_id=str(name.job_id), error=str(error))
