"""The command line as a process at the running service."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.commands import run_here
from tests.conftest import SAMPLES

PICTURES = [str(SAMPLES / f"scene-{number:05}.jpg") for number in range(3)]
LABELS = "cyan ring,red diamond,orange square"
NOWHERE = "google/siglip-base-patch16-224"


class Shell:
    """Runs `lensqueue` as its own process, with the service's address and a key in the environment."""

    def __init__(self, env: Mapping[str, str], url: str, folder: Path, key: str) -> None:
        self.folder = folder
        self.env = {
            **env,
            "LENSQUEUE_URL": url,
            "LENSQUEUE_API_KEY": key,
            "COLUMNS": "200",
        }

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", *arguments]

    def run(self, *arguments: str, status: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*arguments),
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def refuse(self, *arguments: str, status: int) -> subprocess.CompletedProcess[str]:
        """A command that comes to nothing, without a process of its own."""
        env = {name: value for name, value in self.env.items() if name.startswith(("LENSQUEUE_", "COLUMNS"))}
        done = run_here(*arguments, **env)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, status: int = 0, **env: str) -> Any:
        """The one document on stdout."""
        return json.loads(self.run(*arguments, "--json", status=status, **env).stdout)


def submitted(shell: Shell, *arguments: str) -> str:
    return shell.run("submit", *PICTURES, "--labels", LABELS, *arguments).stdout.strip()
