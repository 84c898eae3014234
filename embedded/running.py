"""Whether a stack runs on a state folder, and where: looked up, with nothing made or locked."""

from __future__ import annotations

import os
from pathlib import Path

from embedded.folders import LOCATION_NAME, Folders
from embedded.lock import LOCK_NAME
from embedded.sockets import RECORD_NAME
from embedded.users import service_user


def running_folders(state: Path) -> Folders | None:
    """The folders of the stack whose supervisor lives; None where none does.

    Raises:
        ServiceUserMissingError: a user that Postgres needs to exist does not.
    """
    state = state.resolve()
    try:
        holder = (state / LOCK_NAME).read_text(encoding="ascii").strip()
        os.kill(int(holder), 0)
    except (OSError, ValueError):
        return None
    data = Path(_read(state / LOCATION_NAME) or state)
    sockets = Path(_read(state / RECORD_NAME) or data / "run")
    return Folders(state, data, sockets, service_user())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
