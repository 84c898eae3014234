"""One supervisor per state folder, held by the kernel: it cannot outlive its process."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from embedded.errors import AlreadyRunningError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME = "lock"
MAX_PID_BYTES = 32


def acquire_lock(state: Path) -> int:
    """A descriptor that holds the state folder until it is closed; the file names our pid.

    Raises:
        AlreadyRunningError: another supervisor holds it.
    """
    descriptor = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, MAX_PID_BYTES, 0).strip()
        os.close(descriptor)
        raise AlreadyRunningError(state, int(holder) if holder.isdigit() else None) from error
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def release_lock(descriptor: int) -> None:
    """The file stays: removing it would let two processes hold two files of the same name."""
    os.ftruncate(descriptor, 0)
    os.close(descriptor)
