"""What the embedded services hold, taken out and put back: the database as a dump, files one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from embedded.binaries import client_program
from embedded.errors import BackupFailedError
from embedded.postgres import DATABASE, PORT, ROLE
from embedded.users import plain_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from embedded.folders import Folders

LAST_LINES = 10


def dump_database(folders: Folders, file: Path) -> None:
    """Write the database, as it is at one moment, in the form that `pg_restore` reads.

    Raises:
        BackupFailedError: `pg_dump` says why.
    """
    _run(folders, "pg_dump", "--format=custom", "--no-comments", f"--file={file}", DATABASE)


def restore_database(folders: Folders, file: Path) -> None:
    """Fill the empty database with a dump: with all of it, or with nothing.

    Raises:
        BackupFailedError: `pg_restore` says why.
    """
    # pgvector is there and the superuser's: it needs no comment, and its owner stays who it is
    options = ("--no-owner", "--no-privileges", "--no-comments", "--single-transaction", "--exit-on-error")
    _run(folders, "pg_restore", *options, f"--dbname={DATABASE}", str(file))


def files_below(folder: Path, without: Collection[str] = ()) -> Iterator[Path]:
    """All files, by their paths from the folder on, but those in folders of these names."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - set(without))
        for name in sorted(files):
            yield type(folder)(where, name).relative_to(folder)


def copy_file(source: Path, target: Path) -> int | None:
    """Copy a file with its times, unless it is there; its size in bytes, None when it is gone meanwhile.

    Files of the blob store never change: one of the same size is the same.
    """
    with suppress(FileNotFoundError):
        size_bytes = source.stat().st_size
        if not (target.exists() and target.stat().st_size == size_bytes):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return size_bytes
    return None


def _run(folders: Folders, program: str, *arguments: str) -> None:
    reached = (f"--host={folders.sockets}", f"--port={PORT}", f"--username={ROLE}", "--no-password")
    outcome = subprocess.run(
        [str(client_program(program)), *reached, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=plain_environment(),
    )
    if outcome.returncode != 0:
        raise BackupFailedError(program, "\n".join(outcome.stdout.splitlines()[-LAST_LINES:]))
