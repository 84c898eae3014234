"""What docker-compose.yml names exists: in the code, in the Dockerfile, and in itself."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from api.settings import ApiSettings
from cli.up import API_GRACE_SECONDS, WORKER_GRACE_SECONDS
from engine.catalog import DEMO_MODEL, Catalog
from jobs.broker import SETTINGS
from models.queue import ANALYSIS
from tests.rendered import KUBERNETES, ROOT, arguments_of, read_env
from worker.settings import WorkerSettings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HOW_TO = "".join((ROOT / "docs" / "how-to" / f"{page}.md").read_text() for page in ("deploy", "cluster"))
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = {name: service for name, service in OURS.items() if service["command"][1] == "worker"}
HUB_MODELS = {name for name in Catalog().names() if name != DEMO_MODEL}
YOURS = ("deploy/secrets", "deploy/kubernetes/overlays/mine")
"""What the how-to has the operator make."""
OF_THE_CLIENT = {"LENSQUEUE_URL", "LENSQUEUE_API_KEY"}
SETTING_FILES = [ROOT / "deploy" / "settings.env", KUBERNETES / "base" / "settings.env"]


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


@pytest.mark.parametrize("file", SETTING_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_variable_is_a_setting_and_can_be_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**ApiSettings.model_fields, **WorkerSettings.model_fields}
    env = read_env(file)
    ours = {name for name in env if name.startswith("LENSQUEUE_")}
    assert ours
    assert ours <= {f"LENSQUEUE_{field}".upper() for field in known}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    password = tmp_path / "password"
    password.write_text("secret\n")
    monkeypatch.setenv("LENSQUEUE_DATABASE_PASSWORD_FILE", str(password))
    for settings in (ApiSettings(), WorkerSettings(model=DEMO_MODEL)):
        assert settings.default_model in settings.catalog().names()
        assert make_url(settings.database_url).password == "secret"


def test_no_service_has_a_secret_in_its_environment() -> None:
    for service in SERVICES.values():
        environment = set(service.get("environment", {}))
        assert {name for name in environment if "PASSWORD" in name} <= {"POSTGRES_PASSWORD_FILE"}
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    read_from = {read_env(SETTING_FILES[0])["LENSQUEUE_DATABASE_PASSWORD_FILE"]}
    read_from.add(SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"])
    assert read_from == {f"/run/secrets/{name}" for name in COMPOSE["secrets"]}


def test_postgres_has_a_connection_for_every_service() -> None:
    (most,) = re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgres"]["command"]))
    # of an API process and of a worker, as docs/how-to/scale-out.md counts; each model on one kind of device
    assert int(most) >= 58 + 6 * (len(HUB_MODELS) + 2) + 20
    assert f"It is {most} in `docker-compose.yml`" in (ROOT / "docs" / "how-to" / "scale-out.md").read_text()


def test_services_are_reached_under_the_names_that_they_have() -> None:
    env = read_env(SETTING_FILES[0])
    database = make_url(env["LENSQUEUE_DATABASE_URL"])
    told = SERVICES[database.host or ""]["environment"]
    assert (database.username, database.database) == (told["POSTGRES_USER"], told["POSTGRES_DB"])
    assert make_url(env["LENSQUEUE_BROKER_URL"]).host in SERVICES


def test_every_command_parses_and_its_model_is_supported() -> None:
    for service in OURS.values():
        model = arguments_of(service["command"]).get("model")
        if model is not None:
            assert Catalog().find(model)


def test_every_model_has_a_worker_on_each_kind_of_device_and_image_sets_have_an_analyst() -> None:
    served: dict[str, list[str]] = {}
    for service in WORKERS.values():
        for profile in service.get("profiles") or ["always"]:
            served.setdefault(profile, []).append(service["command"][-1])
    assert sorted(served["always"]) == sorted([ANALYSIS, DEMO_MODEL])
    assert sorted(served["cpu"]) == sorted(served["gpu"]) == sorted(HUB_MODELS)


def test_images_are_targets_of_the_dockerfile_and_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in OURS.items():
        build = service["build"]
        dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text()
        assert re.search(rf" AS {build['target']}$", dockerfile, re.MULTILINE), name
        assert service["image"] == f"lensqueue-{build['target']}:${{TAG:-{version}}}"


def test_each_role_runs_in_its_image() -> None:
    for name, service in OURS.items():
        target = service["build"]["target"]
        if name in WORKERS:
            on_gpu = "gpu" in (service.get("profiles") or ())
            model = "worker-cuda" if on_gpu else "worker-cpu"
            assert target == ("analyst" if service["command"][-1] == ANALYSIS else model)
            assert ("deploy" in service) == on_gpu
        else:
            assert target == "api"


def test_everything_that_is_depended_on_or_mounted_is_declared_and_used() -> None:
    mounted = set()
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for waited, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[waited]
        mounted |= {mount.partition(":")[0] for mount in service["volumes"] if ":" in mount}
    assert mounted == set(COMPOSE["volumes"])


def test_what_is_kept_lies_where_it_is_looked_for() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    folder = read_env(SETTING_FILES[0])["LENSQUEUE_BLOBS"]
    for service in OURS.values():
        assert f"blobs:{folder}" in service["volumes"]
    (weights,) = re.findall(r"HF_HOME=(\S+)$", dockerfile, re.MULTILINE)
    for service in WORKERS.values():
        assert (f"weights:{weights}" in service["volumes"]) == (service["command"][-1] != ANALYSIS)


def test_the_one_port_that_is_open_is_the_apis_and_only_for_this_host() -> None:
    (name,) = [name for name, service in SERVICES.items() if "ports" in service]
    (published,) = SERVICES[name]["ports"]
    assert published.startswith("127.0.0.1:")
    listens = arguments_of(SERVICES[name]["command"])
    assert listens["host"] == "0.0.0.0"  # noqa: S104 - of a container
    assert str(listens["port"]) == published.rpartition(":")[2]
    assert f"EXPOSE {listens['port']}" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_processes_are_given_the_time_that_they_take_to_end() -> None:
    soft_seconds: float = SETTINGS["worker_soft_shutdown_timeout"]
    for name, service in OURS.items():
        if name in WORKERS:
            assert seconds(service["stop_grace_period"]) >= max(WORKER_GRACE_SECONDS, soft_seconds * 2)
    assert seconds(SERVICES["api"]["stop_grace_period"]) >= API_GRACE_SECONDS


def test_our_services_run_confined_and_with_an_init() -> None:
    for service in OURS.values():
        assert service["init"] is service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        # a folder on disk: what is written there counts as nobody's memory
        assert "/tmp" in service["volumes"]  # noqa: S108 - of a container


def test_every_block_of_the_how_to_says_what_it_needs() -> None:
    blocks = re.findall(r"^```text\n(.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    assert all(re.match(r"# needs a (container engine|cluster)", block) for block in blocks)


def test_what_the_how_to_names_exists() -> None:
    assert set(re.findall(r"\bsiglip\S+-[cg]pu\b", HOW_TO)) <= set(SERVICES)
    for command in re.findall(r"docker compose exec (\w+) |docker compose run .*--no-deps (\S+) ", HOW_TO):
        assert "".join(command) in SERVICES
    assert set(re.findall(r"--profile (\w+)", HOW_TO)) <= {"cpu", "gpu"}
    known = {**ApiSettings.model_fields, **WorkerSettings.model_fields}
    named = set(re.findall(r"LENSQUEUE_[A-Z0-9_]+", HOW_TO))
    assert named - OF_THE_CLIENT <= {f"LENSQUEUE_{field}".upper() for field in known}
    for path in re.findall(r"deploy/[\w/.-]+\w", HOW_TO):
        assert (ROOT / path).exists() or path.startswith(YOURS), path
    for line in re.findall(r"-- (lensqueue .*)|api (lensqueue keys .*)", HOW_TO):
        arguments_of("".join(line).split())
