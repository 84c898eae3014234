"""Files on their way in, of a request that goes away."""

import asyncio
import threading
from pathlib import Path

import pytest

from api.arrivals import arriving
from jobs.blobs import BlobStore
from tests.sets import files_of


def test_who_goes_while_a_file_is_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = BlobStore(tmp_path)
    blobs.create()
    begun, on = threading.Event(), threading.Event()
    check = BlobStore.check

    def slow(store: BlobStore) -> None:
        begun.set()
        on.wait()
        check(store)

    monkeypatch.setattr(BlobStore, "check", slow)

    async def send() -> None:
        async with arriving(blobs) as arrivals:
            await arrivals.begin("archive", "a.zip")

    async def run() -> None:
        sending = asyncio.create_task(send())
        await asyncio.to_thread(begun.wait)
        sending.cancel()
        # it has gone, and the thread is still to begin the file
        await asyncio.sleep(0)
        on.set()
        with pytest.raises(asyncio.CancelledError):
            await sending

    asyncio.run(run())
    assert files_of(tmp_path) == []
