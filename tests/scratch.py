"""Where tests keep databases and service state: in memory, where the machine has room for that."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder with a name of its own is made in it
ROOM_BYTES: Final = 8 * 2**30
"""What is kept there is memory, and the tests want some beside it."""


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that the user of Postgres may enter, which pytest's own is not when root runs it.

    A copy of a database is some 900 small files: on a disk it takes ten times as long as in memory.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_place()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _place() -> Path | None:
    """None is the default of `tempfile`."""
    try:
        room = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    except OSError:
        return None
    return MEMORY if room >= ROOM_BYTES else None
