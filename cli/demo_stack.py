"""The whole service for as long as a command needs it."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from cli.console import console, fail
from embedded.errors import EmbeddedError
from embedded.process import Running, Service
from lensqueue_client import Client

START_SECONDS = 120.0
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.2


@contextmanager
def running_service(state: Path, model: str) -> Iterator[Client]:
    """`lensqueue up` with one model, loaded, and a client with its key; it ends with us, however we end."""
    port = _free_port()
    log = state / "demo-up.log"
    log.unlink(missing_ok=True)
    service = Service(
        name="lensqueue up",
        argv=[
            *(sys.executable, "-m", "cli", "up"),
            *("--state", str(state), "--port", str(port), "--model", model),
        ],
        log=log,
        stop_grace_s=STOP_SECONDS,
    )
    try:
        running = Running(service)
    except (EmbeddedError, OSError) as error:
        fail(str(error))
    try:
        with console.status("Starting Postgres, Valkey and the API ..."):
            _await_api(running, port)
        key = (state / "api-key").read_text(encoding="utf-8").strip()
        with Client(f"http://127.0.0.1:{port}", key) as client:
            with console.status(f"Loading {model}; weights from a hub are fetched the first time ..."):
                _await_worker(running, client, model)
            yield client
    finally:
        with console.status("Stopping ..."):
            running.stop()


def _await_api(running: Running, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        _check(running)
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(LOOK_SECONDS)
    fail(f"the service was not ready within {START_SECONDS:g} s; see {running.service.log}")


def _await_worker(running: Running, client: Client, model: str) -> None:
    """As long as it takes: fetching the weights of the largest model lasts many minutes."""
    while True:
        _check(running)
        seen = client.model(model)
        if seen.workers_online:
            return
        if seen.error:
            fail(f"{model} cannot be loaded: {seen.error.message}")
        time.sleep(LOOK_SECONDS)


def _check(running: Running) -> None:
    if running.poll() is not None:
        said = running.last_log_lines().splitlines()[-1:] or ["it said nothing"]
        fail(f"the service did not start: {said[0].removeprefix('lensqueue: ')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
