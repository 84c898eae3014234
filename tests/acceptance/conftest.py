"""The whole service as real processes: Postgres, Valkey, the API and a worker with the demo checkpoint."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from cli.processes import api_argv, worker_argv, worker_env
from embedded.process import Service
from embedded.stack import Stack
from jobs.blobs import BlobStore
from jobs.keys import create_key
from lensqueue_client import Client
from models import schema
from models.session import sync_sessions
from models.types import Scope
from tests.acceptance.clients import Blocking
from tests.acceptance.shell import Shell
from tests.ledger import MODEL, TENANT
from tests.scratch import scratch_folder

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

LEASE_SECONDS = 2.0
Pictures = Sequence[tuple[str, bytes]]


class RunningService:
    """A running service and a client with a key to it."""

    def __init__(self, state: Path, *, with_worker: bool = True, **settings: str) -> None:
        self.stack = Stack(state)
        self.stack.start()
        self.port = free_port()
        folders = self.stack.folders
        self.env = {
            **os.environ,
            "LENSQUEUE_DATABASE_URL": self.stack.database_url,
            "LENSQUEUE_BROKER_URL": self.stack.broker_url,
            "LENSQUEUE_BLOBS": str(folders.blobs),
            "LENSQUEUE_DEFAULT_MODEL": MODEL,
            "LENSQUEUE_LEASE_SECONDS": str(LEASE_SECONDS),
            **settings,
        }
        schema.upgrade(self.stack.database_url)
        BlobStore(folders.blobs).create()
        self.sessions: sessionmaker[Session] = sync_sessions(self.stack.database_url)
        with self.sessions.begin() as session:
            self.key = create_key(session, name="acceptance", tenant=TENANT).key
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=30,
        )
        self.start_api("api", self.port)
        if with_worker:
            self.start_worker("worker")
            self.wait_until(self.is_ready, seconds=90)
        else:
            self.wait_until(lambda: self.is_ready(worker=False))

    def start_api(self, name: str, port: int, **settings: str) -> None:
        """Keep an API process up; it answers when it is ready."""
        self._keep(name, api_argv("127.0.0.1", port), {**self.env, **settings})

    def start_worker(self, name: str, **settings: str) -> None:
        """Keep a worker up; it takes work when it is ready."""
        self._keep(name, worker_argv(), {**self.env, **worker_env(MODEL, device="cpu"), **settings})

    def is_ready(self, *, worker: bool = True) -> bool:
        try:
            return self.client.get("/readyz", params={"worker": worker}).is_success
        except httpx.TransportError:
            return False

    def pid(self, name: str) -> int:
        """The process id of a service that is up."""
        pid = self.stack.pid(name)
        assert pid is not None, f"{name} is down"
        return pid

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to the process of a service itself; returns its id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def submit(self, job: dict[str, Any], pictures: Pictures = ()) -> dict[str, Any]:
        """Submit as multipart with pictures, as JSON without; returns the accepted job."""
        if pictures:
            files = [("images", (name, data, "image/jpeg")) for name, data in pictures]
            answer = self.client.post("/v1/jobs", data={"job": json.dumps(job)}, files=files)
        else:
            answer = self.client.post("/v1/jobs", json=job)
        assert answer.status_code == 202, answer.text
        accepted: dict[str, Any] = answer.json()
        return accepted

    def poll(self, job: dict[str, Any]) -> dict[str, Any]:
        polled: dict[str, Any] = self.client.get(job["links"]["self"]).raise_for_status().json()
        return polled

    def finish(self, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Wait for the job's end."""
        self.wait_until(lambda: bool(self.poll(job)["done"]), seconds)
        return self.poll(job)

    def items(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            query: dict[str, str] = {"page_token": token} if token else {}
            page = self.client.get(job["links"]["results"], params=query).raise_for_status().json()
            found += page["items"]
            if (token := page["next_page_token"]) is None:
                return found

    def worker_child(self, name: str = "worker") -> psutil.Process:
        """The process that holds the model."""
        (child,) = [
            child
            for child in psutil.Process(self.pid(name)).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        return child

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Keep the services up, as `lensqueue up` does, until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s; logs:\n{self.logs()}"
            self.stack.supervisor.watch_once()
            time.sleep(0.02)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3_000:]}"
            for path in sorted(self.stack.folders.logs.glob("*.log"))
        )

    def close(self) -> None:
        self.client.close()
        self.sessions.kw["bind"].dispose()
        self.stack.stop()

    def _keep(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        log = self.stack.folders.logs / f"{name}.log"
        self.stack.supervisor.start(
            Service(name=name, argv=argv, env=env, log=log, stop_grace_s=30, restart=True)
        )


@pytest.fixture(scope="session")
def service(state_folder: Path) -> Iterator[RunningService]:
    running = RunningService(state_folder / "service")
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, service: RunningService) -> Iterator[Client]:
    made = request.param(f"http://127.0.0.1:{service.port}", service.key)
    yield made
    made.close()


@pytest.fixture
def sync_client(service: RunningService) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{service.port}", service.key) as made:
        yield made


@pytest.fixture(scope="session")
def shell(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    with service.sessions.begin() as session:
        key = create_key(session, name="command line", tenant=TENANT, scopes=Scope).key
    return Shell(service.env, f"http://127.0.0.1:{service.port}", tmp_path_factory.mktemp("shell"), key)


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    with scratch_folder("lensqueue-acceptance-") as folder:
        yield folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
