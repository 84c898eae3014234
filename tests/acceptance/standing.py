"""A `lensqueue up` of a test's own."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.acceptance.conftest import free_port
from tests.processes import is_alive

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 110


class Up:
    """A `lensqueue up` of its own, with these further arguments and this in its environment."""

    def __init__(self, state: Path, *arguments: str, **env: str) -> None:
        self.state = state
        self.port = free_port()
        self.output = state.parent / "up.log"
        self.temporary = state.parent / "tmp"
        self.temporary.mkdir(exist_ok=True)
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*lensqueue("up"), "--state", str(state), "--port", str(self.port), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.temporary), **env},
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        # one client: each reads anew which authorities are trusted
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}") as client:
            while not self._is_ready(client):
                assert self.process.poll() is None, self.output.read_text()
                assert time.monotonic() < deadline, self.output.read_text()
                time.sleep(0.1)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        """Kill it with all its processes, the servers too."""
        kill_family(self.process)

    def stop(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            return client.get("/readyz?worker=1").is_success
        except httpx.TransportError:
            return False


def kill_family(process: subprocess.Popen[Any]) -> None:
    """Kill a process with all that it has started, before any of them learns of another's end."""
    parent = psutil.Process(process.pid)
    parent.suspend()
    family = [parent, *parent.children(recursive=True)]
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(timeout=10)
    until = time.monotonic() + 10
    while left := [each for each in family if is_alive(each.pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.02)


def lensqueue(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", *arguments]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lensqueue(*arguments), capture_output=True, text=True, timeout=100, check=False, cwd=ROOT, **options
    )
