"""A service to be measured: embedded Postgres and Valkey, the API, a worker with an engine that sleeps."""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from sqlalchemy.orm import Session, sessionmaker

from cli.processes import api_argv, worker_argv, worker_env
from embedded.process import Service
from embedded.stack import Stack
from engine.catalog import DEMO_MODEL
from jobs.blobs import BlobStore
from jobs.keys import create_key
from models import schema
from models.session import sync_sessions

ROOT = Path(__file__).resolve().parents[1]
TENANT = "benchmark"


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack, and the environment of what is to be started on it."""

    stack: Stack
    sessions: sessionmaker[Session]
    env: dict[str, str]
    port: int
    key: str

    def start(self, name: str, argv: list[str], **env: str) -> None:
        """Start a process of the service; it ends with the stack or by `stop`."""
        log = self.stack.folders.logs / f"{name}.log"
        told = {**self.env, **env}
        service = Service(name=name, argv=argv, env=told, log=log, stop_grace_s=30, restart=True)
        self.stack.supervisor.start(service)

    def start_api(self, **env: str) -> None:
        """Start the API and wait until it answers."""
        self.start("api", api_argv("127.0.0.1", self.port), **env)
        self.wait_until(self._answers)

    def start_worker(self, *, sleep_ms: float, **env: str) -> None:
        """Start a worker whose engine sleeps so long for a batch, and wait until it is online."""
        plugged = {
            "LENSQUEUE_ENGINE": "benchmarks.engines:SleepingEngine",
            "LENSQUEUE_SLEEP_MS": f"{sleep_ms:g}",
        }
        self.start("worker", worker_argv(), **worker_env(DEMO_MODEL, device="cpu"), **plugged, **env)
        self.wait_until(lambda: self._answers("/readyz?worker=1"))

    def stop(self, name: str) -> None:
        """End one process of the service."""
        self.stack.supervisor.end(name)

    def client(self) -> httpx.Client:
        """A client with a key."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=120,
        )

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far, of each service with all its processes."""
        return {
            name: _cpu_of(pid)
            for name in ("api", "worker", "tasks", "postgres", "valkey")
            if name in self.stack.supervisor.names and (pid := self.stack.pid(name)) is not None
        }

    def resident_mib(self, name: str) -> float:
        """Memory of a service with all its processes."""
        pid = self.stack.pid(name)
        return 0.0 if pid is None else sum(process.memory_info().rss for process in _family(pid)) / 2**20

    def wait_until(self, condition: Callable[[], bool], seconds: float = 600, every: float = 0.02) -> None:
        """Keep the services up until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s; logs are in {self.stack.folders.logs}")
            self.stack.supervisor.watch_once()
            time.sleep(every)

    def _answers(self, path: str = "/readyz") -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5).is_success
        except httpx.TransportError:
            return False


@contextmanager
def running_bench() -> Iterator[Bench]:
    """An empty stack in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="lensqueue-benchmark-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with Stack(Path(folder) / "state") as stack:
            schema.upgrade(stack.database_url)
            BlobStore(stack.folders.blobs).create()
            sessions = sync_sessions(stack.database_url)
            with sessions.begin() as session:
                key = create_key(session, name="benchmark", tenant=TENANT).key
            env = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LENSQUEUE_DATABASE_URL": stack.database_url,
                "LENSQUEUE_BROKER_URL": stack.broker_url,
                "LENSQUEUE_BLOBS": str(stack.folders.blobs),
                "LENSQUEUE_DEFAULT_MODEL": DEMO_MODEL,
            }
            try:
                yield Bench(stack, sessions, env, _free_port(), key)
            finally:
                sessions.kw["bind"].dispose()


def celery_argv(app: str) -> list[str]:
    """A Celery worker of its own making, with one child."""
    return [
        *(sys.executable, "-m", "celery", "-A", app, "worker"),
        *("--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"),
    ]


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_of(pid: int) -> float:
    times = [process.cpu_times() for process in _family(pid)]
    # those that ended are counted with their parent
    return sum(each.user + each.system for each in times) + times[0].children_user + times[0].children_system


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
