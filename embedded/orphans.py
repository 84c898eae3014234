"""Servers that a killed supervisor left behind and that still hold our data."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import structlog

from embedded.errors import ServiceFailedError

END_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.02

log = structlog.get_logger()


def end_orphans(command: str, folder: Path) -> None:
    """Wait until no process called `command` works in `folder`; for callers that hold the state's lock.

    The kernel signals them when their supervisor dies, but they need a moment, and Postgres must never see
    a second server on its data.

    Raises:
        ServiceFailedError: one survives.
    """
    until = time.monotonic() + END_TIMEOUT_SECONDS
    signalled: set[int] = set()
    while orphans := _find(command, folder):
        if time.monotonic() > until:
            raise ServiceFailedError(command, f"still runs from before as process {min(orphans)}; end it")
        for pid in orphans - signalled:
            log.warning("service.orphan", service=command, pid=pid)
            with suppress(ProcessLookupError):
                # SIGQUIT is Postgres' immediate shutdown; Valkey has no handler for it and just ends.
                os.kill(pid, signal.SIGQUIT)
        signalled |= orphans
        time.sleep(POLL_SECONDS)


def _find(command: str, folder: Path) -> set[int]:
    """Both servers make their data folder their working directory; a shell in there has another name."""
    if not folder.exists():
        return set()
    here = folder.stat()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # not ours to look at, or gone meanwhile
            if (process / "comm").read_text().strip() == command and os.path.samestat(
                (process / "cwd").stat(), here
            ):
                found.add(int(process.name))
    return found
