"""A `lensqueue up` of a test's own."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.acceptance.conftest import free_port

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
        while not self._is_ready():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.1)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz?worker=1").is_success
        except httpx.TransportError:
            return False


def lensqueue(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", *arguments]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lensqueue(*arguments), capture_output=True, text=True, timeout=100, check=False, cwd=ROOT, **options
    )
