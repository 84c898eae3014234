"""Which claim is in the model at this moment, kept where the parent finds it when the child has died of it.

A worker may hold more than that: what is claimed ahead, or stands aside between two passes. Those are not to
blame for a crash. A file outlives its writer, and costs a claim two writes to memory.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

NOBODY: Final = bytes(16)


class RunningMark:
    """Written by the child."""

    def __init__(self, worker_id: uuid.UUID) -> None:
        """Nothing runs yet."""
        self._file = os.open(_path(worker_id), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._current = NOBODY
        self._mark(NOBODY)

    @contextmanager
    def of(self, token: uuid.UUID) -> Iterator[None]:
        """The claim of this lease runs; afterwards what it interrupted goes on."""
        interrupted = self._current
        self._mark(token.bytes)
        try:
            yield
        finally:
            self._mark(interrupted)

    def _mark(self, token: bytes) -> None:
        os.pwrite(self._file, token, 0)
        self._current = token


def take_mark(worker_id: uuid.UUID) -> uuid.UUID | None:
    """What ran when the child of this worker died, if anything did; the mark is gone then."""
    path = _path(worker_id)
    marked = NOBODY
    with suppress(FileNotFoundError):
        marked = path.read_bytes()
        path.unlink()
    return uuid.UUID(bytes=marked) if len(marked) == len(NOBODY) and marked != NOBODY else None


def _path(worker_id: uuid.UUID) -> Path:
    return Path(tempfile.gettempdir()) / f"lensqueue-running-{worker_id}"
