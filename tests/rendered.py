"""The Kubernetes manifests as a cluster is given them, and the settings files of deploy/."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

import yaml
from typer.main import get_command

from cli.main import app

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")


@cache
def render(overlay: str) -> tuple[dict[str, Any], ...]:
    """What `kubectl apply --kustomize` would send of an overlay."""
    return render_folder(KUBERNETES / "overlays" / overlay)


def render_folder(folder: Path) -> tuple[dict[str, Any], ...]:
    """The same of any folder."""
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else which("kubectl")
    assert kubectl is not None, "kubectl is no part of this environment: install the extra `dev`"
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def read_env(file: Path) -> dict[str, str]:
    """The variables of a settings file."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def arguments_of(argv: list[str]) -> dict[str, Any]:
    """The arguments of a `lensqueue` command line, as the command reads them."""
    program, command, *arguments = argv
    assert program == "lensqueue"
    found = get_command(app).get_command(None, command)  # type: ignore[attr-defined]
    assert found is not None, command
    parameters: dict[str, Any] = found.make_context(command, list(arguments)).params
    return parameters
