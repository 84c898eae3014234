"""Postgres and Valkey on one state folder, brought up and down as one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

import structlog

from embedded.binaries import find_binaries
from embedded.errors import AlreadyRunningError, StateFolderUnusableError, UnsupportedSystemError
from embedded.folders import Folders, claim_state, find_data, lay_out
from embedded.lock import acquire_lock, release_lock
from embedded.postgres import create_database, database_url, prepare_postgres
from embedded.sockets import choose_sockets, remove_sockets
from embedded.supervisor import Supervisor
from embedded.users import service_user
from embedded.valkey import broker_url, prepare_valkey, valkey_url

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

MAX_LOG_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


class Stack:
    """The embedded services of one state folder, which it locks from `start` to `stop`.

    Further services (the API, workers) go to `supervisor.start`; `stop` ends them first. Started and watched
    from the main thread.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.supervisor = Supervisor()
        self._claimed: Path | None = None
        self._folders: Folders | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def folders(self) -> Folders:
        if self._folders is None:
            raise StateFolderUnusableError(self.state, "it is not started")
        return self._folders

    @property
    def database_url(self) -> str:
        return database_url(self.folders)

    @property
    def broker_url(self) -> str:
        return broker_url(self.folders)

    @property
    def valkey_url(self) -> str:
        return valkey_url(self.folders)

    def pid(self, name: str) -> int | None:
        """The process id of a service, None while it is down."""
        return self.supervisor.pid(name)

    def claim(self) -> None:
        """Lock the state folder; what `start` does first, for whoever has something to look at before that.

        Raises:
            UnsupportedSystemError, AlreadyRunningError, StateFolderUnusableError: as `start` does.
        """
        if sys.platform != "linux":
            raise UnsupportedSystemError(sys.platform)
        if self._lock is not None:
            raise AlreadyRunningError(self.state, os.getpid())
        try:
            self._claimed = claim_state(self.state)
            self._lock = acquire_lock(self._claimed)
        except OSError as error:
            raise StateFolderUnusableError(self.state, str(error)) from error

    def start(self) -> None:
        """Bring up both services, with the database made; returns once they answer.

        Raises:
            UnsupportedSystemError: this is not Linux.
            AlreadyRunningError: another supervisor holds the state folder.
            StateFolderUnusableError: the folder cannot hold the data.
            ServiceUserMissingError: a user that Postgres needs to exist does not.
            WheelMissingError: the servers are not installed.
            ServiceFailedError: a service did not come up; nothing is left running.
            NotMainThreadError: called from another thread.
        """
        if self._folders is not None:
            raise AlreadyRunningError(self.state, os.getpid())
        if self._lock is None:
            self.claim()
        try:
            self._start()
        except OSError as error:
            self.stop()
            raise StateFolderUnusableError(self.state, str(error)) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything and release the state folder; harmless when nothing runs."""
        try:
            self.supervisor.stop()
        finally:
            if self._lock is not None:
                if self._folders is not None:
                    remove_sockets(self._folders.state, self._folders.user)
                release_lock(self._lock)
            self._lock = self._claimed = self._folders = None

    def _start(self) -> None:
        assert self._claimed is not None
        state, user = self._claimed, service_user()
        data = find_data(state, user)
        self._folders = lay_out(state, data, choose_sockets(state, data, user), user)
        binaries = find_binaries(data, user)
        _set_aside_long_logs(self._folders.logs)
        self.supervisor.start(prepare_postgres(self._folders, binaries))
        create_database(self._folders)
        self.supervisor.start(prepare_valkey(self._folders, binaries))
        log.info("stack.started", state=str(state), data=str(data), user=user.name)


def _set_aside_long_logs(logs: Path) -> None:
    """Keep one earlier part of each log; only while down, since a service keeps the file it was given."""
    for path in logs.glob("*.log"):
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
