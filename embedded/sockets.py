"""A folder for the sockets whose paths the kernel accepts (108 bytes at most)."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import StateFolderUnusableError
from embedded.folders import give_folder, write_file
from embedded.users import OsUser, can_enter, run_as

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_NAME = ".s.PGSQL.5432"
MAX_PATH_BYTES = 100
RECORD_NAME = "sockets"
# libpq reads a comma in a host as the start of the next host, and configuration files read the others.
AWKWARD = frozenset(",\"'\\\n\r%#?")


def choose_sockets(state: Path, data: Path, user: OsUser) -> Path:
    """`data/run`, or a new private folder among the temp files where that path is too long or awkward."""
    _remove_recorded(state, user)
    preferred = data / "run"
    if _is_usable(preferred):
        return preferred
    for parent in _temp_folders():
        if _is_usable(parent / "lensqueue-12345678") and can_enter(user, parent):
            folder = Path(tempfile.mkdtemp(prefix="lensqueue-", dir=parent))
            write_file(state / RECORD_NAME, f"{folder}\n", 0o600)
            give_folder(folder, user)
            return folder
    raise StateFolderUnusableError(
        state, "its path is too long for a socket, and no temp folder is short and open enough; set TMPDIR"
    )


def remove_sockets(state: Path, user: OsUser) -> None:
    """Remove the folder that `choose_sockets` made in the temp folder, if it did."""
    _remove_recorded(state, user)


def _remove_recorded(state: Path, user: OsUser) -> None:
    record = state / RECORD_NAME
    if not record.exists():
        return
    folder = record.read_text().strip()
    # The folder is the services' user's: root does not reach into it.
    run_as(user, ["/bin/rm", "-rf", "--", folder])
    with suppress(OSError):
        os.rmdir(folder)  # noqa: PTH106 - a plain string: an empty record must not become "."
    record.unlink()


def _is_usable(folder: Path) -> bool:
    path = str(folder / LONGEST_NAME)
    return len(os.fsencode(path)) <= MAX_PATH_BYTES and not AWKWARD & set(path)


def _temp_folders() -> Iterator[Path]:
    yield Path(tempfile.gettempdir())
    yield from (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes a private folder inside
