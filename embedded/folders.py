"""Where the embedded services keep things, and who owns what.

DIR/lock, DIR/logs, DIR/blobs   the user that runs Lensqueue
DIR/pg, DIR/valkey, DIR/run     the user that runs the services: data and sockets, 0700
DIR/conf, DIR/binaries          written by the former, read by the latter

For root these are two users. Where the second cannot enter DIR, what it needs lives in
/var/lib/lensqueue/<hash>, and DIR/location names that folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from embedded.errors import StateFolderUnusableError
from embedded.users import OsUser, can_enter

ELSEWHERE = Path("/var/lib/lensqueue")
LOCATION_NAME = "location"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Folders:
    """The layout of one state folder; every path is absolute."""

    state: Path
    data: Path
    sockets: Path
    user: OsUser

    @property
    def pg(self) -> Path:
        return self.data / "pg"

    @property
    def valkey(self) -> Path:
        return self.data / "valkey"

    @property
    def conf(self) -> Path:
        return self.data / "conf"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def blobs(self) -> Path:
        """Where the application keeps its blobs; it makes the folder itself."""
        return self.state / "blobs"


def claim_state(asked: Path) -> Path:
    """The folder that holds the lock, the logs and the blobs; made if missing, readable by its owner alone.

    Normally `asked`. Root writes nothing into another user's folder: where `asked` is missing and would have
    to be made in one, a folder below /var/lib/lensqueue stands in for it.
    """
    absolute = Path(os.path.abspath(asked))  # noqa: PTH100 - resolve() would follow a last, foreign symlink
    state = absolute.parent.resolve() / absolute.name
    if state.is_symlink():
        _require_owner(state, os.geteuid())
        state = state.resolve()
    if not state.exists() and os.geteuid() == 0 and _nearest_existing(state).stat().st_uid != 0:
        state = _elsewhere(state)
    if not state.exists():
        _make_open(state.parent)
        state.mkdir()
        state.chmod(_shared_mode())
    if not state.is_dir():
        raise StateFolderUnusableError(state, "it is not a folder")
    _require_owner(state, os.geteuid())
    if os.geteuid() == 0 and not state.stat().st_mode & stat.S_IXOTH:
        state.chmod(_shared_mode())
    return state


def holds_data(state: Path) -> bool:
    """Whether services have run on a state folder, or files were put there for them."""
    return any((state / name).exists() for name in ("pg", LOCATION_NAME, "blobs"))


def find_data(state: Path, user: OsUser) -> Path:
    """The folder for what `user` must reach: the state folder where that user can enter it."""
    location = state / LOCATION_NAME
    if location.exists():
        data = Path(location.read_text().strip())
        if not data.is_dir():
            raise StateFolderUnusableError(
                state, f"its data was in {data}, which is gone; remove {location} to begin anew"
            )
    elif can_enter(user, state):
        return state
    elif (state / "pg").exists():
        raise StateFolderUnusableError(
            state, f"it holds data, but {user.name} cannot enter it any more; open the folders above it again"
        )
    else:
        data = _make_elsewhere(state)
        write_file(location, f"{data}\n", 0o600)
    _require_owner(data, os.geteuid())
    if not can_enter(user, data):
        raise StateFolderUnusableError(data, f"{user.name} cannot enter it")
    return data


def lay_out(state: Path, data: Path, sockets: Path, user: OsUser) -> Folders:
    """Make what is missing below the state and data folders."""
    folders = Folders(state, data, sockets, user)
    for private in (folders.pg.parent / "run", folders.valkey):
        give_folder(private, user)
    folders.conf.mkdir(exist_ok=True)
    folders.conf.chmod(_shared_mode())
    folders.logs.mkdir(exist_ok=True)
    folders.logs.chmod(0o700)
    return folders


def give_folder(folder: Path, user: OsUser) -> None:
    """Make `folder` a 0700 folder of `user`; its parent is ours, so nobody can swap it meanwhile."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise StateFolderUnusableError(folder, "it is not a folder")
    if status.st_uid == os.geteuid() != user.uid:
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)
    _require_owner(folder, user.uid)


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file of ours in a folder of ours, all of it or nothing, whatever the umask."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    draft.replace(path)


def _elsewhere(state: Path) -> Path:
    return ELSEWHERE / hashlib.sha256(os.fsencode(state)).hexdigest()[:16]


def _make_elsewhere(state: Path) -> Path:
    data = _elsewhere(state)
    if data.exists():
        # The state folder was removed and made again: whoever did so wanted a fresh start, but may regret it.
        aside = data.with_name(f"{data.name}.abandoned-{time.time_ns()}")
        data.rename(aside)
        log.warning("state.abandoned_data", folder=str(aside), state=str(state))
    _make_open(data)
    data.chmod(_shared_mode())
    return data


def _make_open(folder: Path) -> None:
    """Make `folder` and its missing parents such that others may traverse what we made, and only that."""
    if folder.exists():
        return
    _make_open(folder.parent)
    folder.mkdir()
    folder.chmod(0o755)


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _shared_mode() -> int:
    return 0o711 if os.geteuid() == 0 else 0o700


def _require_owner(path: Path, uid: int) -> None:
    owner = path.lstat().st_uid
    if owner != uid:
        raise StateFolderUnusableError(
            path, f"it belongs to user id {owner}, not {uid}; run as its owner or choose another state folder"
        )
