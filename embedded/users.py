"""Who runs the services, and what that user may reach."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedded.errors import ServiceUserMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNPRIVILEGED = "nobody"
COMMAND_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class OsUser:
    """An operating system user as Postgres' peer authentication will see it."""

    name: str
    uid: int
    gid: int


def current_user() -> OsUser:
    """The user that runs Lensqueue.

    Raises:
        ServiceUserMissingError: the uid has no name, as under `docker run --user 1234`.
    """
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise ServiceUserMissingError(str(os.geteuid())) from error
    return OsUser(entry.pw_name, os.geteuid(), os.getegid())


def service_user() -> OsUser:
    """The user that runs Postgres and Valkey: ourselves, or `nobody` for root, whom Postgres refuses."""
    if os.geteuid() != 0:
        return current_user()
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise ServiceUserMissingError(UNPRIVILEGED) from error
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def run_as(user: OsUser, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The outcome of a short command run as `user`; a command that cannot be executed exits with 126."""
    uid, gid, groups = switch_to(user)
    try:
        return subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=plain_environment(),
            timeout=COMMAND_TIMEOUT_SECONDS,
            user=uid,
            group=gid,
            extra_groups=groups,
        )
    except PermissionError as error:
        return subprocess.CompletedProcess(argv, 126, str(error))


def switch_to(user: OsUser | None) -> tuple[int | None, int | None, list[int] | None]:
    """What `subprocess` takes as user, group and extra_groups so that a child belongs to `user`."""
    if user is None or user.uid == os.geteuid():
        return None, None, None
    return user.uid, user.gid, []


def can_enter(user: OsUser, folder: Path) -> bool:
    """Whether `user` may traverse `folder` and everything above it."""
    if user.uid == os.geteuid():
        return os.access(folder, os.X_OK)
    # Asked of the kernel as that user: mode bits alone say nothing about ACLs and mounts.
    return run_as(user, ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)]).returncode == 0


def plain_environment() -> dict[str, str]:
    """An environment in which no PGPORT, PGDATA or locale of the caller changes what a service does."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
