"""What the deployment files name exists in the code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from api.settings import ApiSettings
from cli.main import app
from engine.catalog import DEMO_MODEL, Catalog
from models.queue import ANALYSIS
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "lensqueue"}


def test_every_variable_is_a_setting() -> None:
    known = {
        f"LENSQUEUE_{field}".upper() for field in {**ApiSettings.model_fields, **WorkerSettings.model_fields}
    }
    for service in OURS.values():
        named = {name for name in service["environment"] if name.startswith("LENSQUEUE_")}
        assert named
        assert named <= known


def test_every_command_parses() -> None:
    commands = get_command(app)
    for name, service in OURS.items():
        program, command, *arguments = service["command"]
        assert program == "lensqueue"
        found = commands.get_command(None, command)  # type: ignore[attr-defined]
        assert found is not None, name
        context = found.make_context(command, list(arguments))
        if context.params.get("model") is not None:
            assert Catalog().find(context.params["model"])


def test_everything_that_is_depended_on_or_mounted_is_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        volumes = {mount.partition(":")[0] for mount in service.get("volumes", [])}
        assert volumes <= set(COMPOSE["volumes"])


def test_services_are_reached_under_the_names_they_have() -> None:
    for service in OURS.values():
        for url in ("LENSQUEUE_DATABASE_URL", "LENSQUEUE_BROKER_URL"):
            host = re.search(r"(?:@|redis://)([a-z]+)[:/]", service["environment"][url])
            assert host is not None
            assert host[1] in COMPOSE["services"]


def test_the_image_installs_what_every_role_needs() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (extras,) = re.findall(r'--editable "\.\[([a-z0-9,]+)\]"', dockerfile)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # the others are a database and a broker of one's own, and what develops and tests it
    assert set(extras.split(",")) == set(known) - {"embedded", "dev", "browser"}


def test_everything_that_has_a_queue_has_a_worker() -> None:
    served = {service["command"][-1] for service in OURS.values() if service["command"][1] == "worker"}
    assert {ANALYSIS, DEMO_MODEL} <= served


def test_the_image_copies_and_installs_what_exists() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)
    assert copied
    assert all((ROOT / source).exists() for source in copied)
