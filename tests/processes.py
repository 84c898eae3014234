"""What tests of running processes share: looking for them, and waiting while they are watched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded.supervisor import Supervisor


def watch_until(supervisor: Supervisor, condition: Callable[[], bool], within: float = 15.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, "it never happened"
        supervisor.watch_once()
        time.sleep(0.02)


def processes_in(folder: Path) -> list[psutil.Process]:
    """What has its working directory at or below `folder`, as both servers do."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_empty(folder: Path, within: float = 10.0) -> None:
    until = time.monotonic() + within
    while left := processes_in(folder):
        assert time.monotonic() < until, left
        time.sleep(0.02)
