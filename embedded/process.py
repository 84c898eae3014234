"""A long-running process as a value, and one live process of it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from embedded.users import OsUser, switch_to

PR_SET_PDEATHSIG = 1
LAST_LOG_BYTES = 4096
LAST_LOG_LINES = 15
POLL_SECONDS = 0.01

# Loaded here: between fork and exec nothing may be loaded any more.
_LIBC = ctypes.CDLL(None, use_errno=True)


def always_ready(pid: int) -> bool:
    """A readiness test for services that are useful as soon as they run."""
    return True


def nothing_to_prepare() -> None:
    """What most services need before each start."""


@dataclass(frozen=True, slots=True)
class Service:
    """How to run, probe and stop one process.

    `env` of None inherits ours, `user` of None is ourselves, `log` of None inherits stdout and stderr.
    `ready` gets the process id, must answer at once and say False rather than raise. `prepare` runs before
    each start, restarts included. `death_signal` is what the kernel sends should the supervisor die first.
    On a `foundation` others stand: it is stopped when they have ended.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    user: OsUser | None = None
    log: Path | None = None
    cwd: Path | None = None
    prepare: Callable[[], None] = nothing_to_prepare
    ready: Callable[[int], bool] = always_ready
    ready_timeout_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    restart: bool = False
    foundation: bool = False


class Running:
    """One process of a service, the leader of its own session: a Ctrl-C reaches only the supervisor."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ready = False
        self.started_at = time.monotonic()
        uid, gid, groups = switch_to(service.user)
        with _open_log(service.log) as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                service.argv,
                env=service.env,
                cwd=service.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # After the user was dropped, since that clears the setting; the supervisor starts
                # services from its main thread, so no lock can be held by the forking thread.
                preexec_fn=_die_with_parent(service.death_signal),  # noqa: PLW1509
                user=uid,
                group=gid,
                extra_groups=groups,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started_at

    def check_ready(self) -> bool:
        """Ask the service, until it once said yes."""
        self.ready = self.ready or self.service.ready(self.pid)
        return self.ready

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while the process lives.

        What the process left behind in its group is killed before its id can be given to another.
        """
        if self._process.returncode is None:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, flags) is None:
                return None
            self._kill_group()
            self._process.wait()
        return self._process.returncode

    def wait(self, timeout_s: float) -> int | None:
        """Like `poll`, after at most `timeout_s` seconds."""
        until = time.monotonic() + timeout_s
        while self.poll() is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return self.poll()

    def ask_to_stop(self) -> None:
        """Send the signal at which the process ends by itself."""
        if self.poll() is None:
            os.kill(self.pid, self.service.stop_signal)

    def stop(self) -> int:
        """End the process politely, then by force; returns its exit code."""
        self.ask_to_stop()
        return self.await_end()

    def await_end(self) -> int:
        """Give the process the time that it has to end in, then end it by force; returns its exit code."""
        code = self.wait(self.service.stop_grace_s)
        return self.kill() if code is None else code

    def kill(self) -> int:
        """End the process and its group by force; returns its exit code."""
        if self.poll() is None:
            self._kill_group()
            self._process.wait()
        return self._process.returncode

    def last_log_lines(self) -> str:
        """The end of the service's log file, if it has one."""
        if self.service.log is None:
            return ""
        with self.service.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LOG_LINES:])

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _open_log(path: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    """Opened by us, so that the service needs no right to the folder of the log."""
    if path is None:
        return nullcontext()
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "wb")


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    supervisor = os.getpid()

    def arrange() -> None:
        if sys.platform == "linux" and _LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The supervisor may have died before the kernel was told.
        if os.getppid() != supervisor:
            os.kill(os.getpid(), signal.SIGKILL)

    return arrange
