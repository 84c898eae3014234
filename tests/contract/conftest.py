"""The running service, two keys of two tenants, its document as a file, and the tools of `install`."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from jobs.keys import create_key
from models.types import Scope
from tests.acceptance.conftest import RunningService, state_folder
from tests.conftest import SAMPLES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PYTHON_TOOLS = ROOT / ".contract" / "venv" / "bin"
NODE_TOOLS = ROOT / ".contract" / "node" / "node_modules" / ".bin"

__all__ = ["state_folder"]


@pytest.fixture(scope="session")
def service(state_folder: Path) -> Iterator[RunningService]:
    """A service that refuses nobody for asking too often."""
    running = RunningService(
        state_folder / "service",
        LENSQUEUE_REQUESTS_PER_MINUTE="0",
        LENSQUEUE_BAD_KEYS_PER_MINUTE="0",
        LENSQUEUE_MAX_TENANT_ITEMS="1000000",
    )
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def keys(service: RunningService) -> tuple[str, str]:
    """Two keys that may do everything, of two tenants."""
    with service.sessions.begin() as session:
        mine, others = (
            create_key(session, name=tenant, tenant=tenant, scopes=list(Scope)).key
            for tenant in ("contract", "another")
        )
    return mine, others


@pytest.fixture(scope="session")
def address(service: RunningService) -> str:
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture(scope="session")
def document(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service says of itself."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(service.client.get("/openapi.json").raise_for_status().content)
    return path


@pytest.fixture(scope="session")
def job_with_maps(service: RunningService, keys: tuple[str, str]) -> str:
    """The id of a job of the first key that is done and has everything that an item may have."""
    job = {"type": "logit_lens", "labels": ["a ring", "a heart"], "options": {"outputs": ["pooled", "patch"]}}
    with httpx.Client(base_url=service.client.base_url, headers=bearer(keys[0]), timeout=60) as client:
        picture = (SAMPLES / "scene-00000.jpg").read_bytes()
        files = [("images", ("a.jpg", picture, "image/jpeg"))]
        made = client.post("/v1/jobs", data={"job": json.dumps(job)}, files=files).raise_for_status().json()
        service.wait_until(lambda: bool(client.get(made["links"]["self"]).json()["done"]))
        shown = client.get(made["links"]["self"]).json()
    assert shown["state"] == "succeeded", shown
    return str(shown["id"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def run(tool: Path, *arguments: object, env: Mapping[str, str] | None = None) -> None:
    """Run a tool in this folder; what it says is what a failure shows.

    Python's own comes first, for the tools that look for others.
    """
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [str(tool), *map(str, arguments)],
        cwd=HERE,
        env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(ran.stdout)  # noqa: T201 - pytest keeps it for a failure
    assert ran.returncode == 0, f"{tool.name} found something"
