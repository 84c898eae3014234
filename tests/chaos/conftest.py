"""A service with an engine that fails on order, on which processes are killed, frozen and lied to."""

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from psycopg.errors import DeadlockDetected
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from jobs.broker import KEY_PREFIX, queue_of
from jobs.submission import Submission, Terms, TextItem
from models.types import JobType, Priority
from tests.acceptance.conftest import RunningService, free_port
from tests.chaos.engine import PLUG
from tests.faults import change
from tests.ledger import MODEL, TENANT, admit_and_submit, assert_settled, scalar

START_SECONDS = 90
RESET_SECONDS = 30
TIMEOUT_SECONDS = 400
QUEUE_KEY = KEY_PREFIX + queue_of(MODEL).name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here is chaos."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("chaos")
            item.add_marker("slow_chaos")
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


class Chaos(RunningService):
    """A running API, with workers as each test wants them."""

    def __init__(self, state: Path) -> None:
        # receivers of webhooks listen here too
        super().__init__(state, with_worker=False, LENSQUEUE_EGRESS_ALLOWED='["127.0.0.1:*"]')
        self.workers: dict[str, uuid.UUID] = {}
        self.apis: dict[str, int] = {"api": self.port}
        self.broker = redis.Redis.from_url(self.stack.valkey_url)

    def add_worker(self, name: str = "worker", *, ready: bool = True, **settings: str) -> None:
        """Start a worker that does what it is told by the texts; its leases outlive any test of crashes."""
        self.workers[name] = uuid.uuid4()
        own = {
            "LENSQUEUE_ENGINE": PLUG,
            "LENSQUEUE_WORKER_ID": str(self.workers[name]),
            "LENSQUEUE_LEASE_SECONDS": "60",
            "LENSQUEUE_DECODERS": "1",
        }
        self.start_worker(name, **{**own, **settings})
        if ready:
            self.wait_until(lambda: self.state_of(name) == "online", START_SECONDS)

    def state_of(self, name: str) -> str | None:
        """What a worker last said of itself."""
        state: str | None = scalar(
            self.sessions, "SELECT state FROM workers WHERE id = :id", id=self.workers[name]
        )
        return state

    def add_api(self, name: str, **settings: str) -> int:
        """Start another API process over the same ledger, and wait until it answers; returns its port."""
        self.apis[name] = port = free_port()
        self.start_api(name, port, **settings)
        self.wait_until(partial(answers, port))
        return port

    def cancel(self, job: Mapping[str, Any]) -> None:
        """Cancel a job through the API."""
        self.client.post(f"{job['links']['self']}/cancel").raise_for_status()

    def order(
        self,
        texts: Sequence[str],
        priority: Priority | None = Priority.BULK,
        *,
        tenant: str = TENANT,
        terms: Terms | None = None,
    ) -> uuid.UUID:
        """Submit texts as one job, past the API: its duty invites the workers."""
        items = [TextItem(text) for text in texts]
        options = {"normalize": True}
        wanted = Submission(JobType.EMBEDDING, MODEL, items, options, priority, terms or Terms())
        return admit_and_submit(self.sessions, wanted, tenant)

    def send(self, *texts: str) -> dict[str, Any]:
        """Submit texts through the API."""
        return self.submit({"type": "embedding", "input": {"texts": list(texts)}})

    def count(self, query: str, **values: Any) -> Any:
        """The answer to a question to the ledger."""
        return scalar(self.sessions, query, **values)

    def change(self, statement: str, **values: Any) -> None:
        """Change the ledger by hand."""
        change(self.sessions, statement, **values)

    def is_forward(self) -> bool:
        """Whether some worker holds a lease."""
        return bool(self.count("SELECT count(*) FROM leases"))

    def job(self, job_id: uuid.UUID) -> Any:
        """How a job stands: state, succeeded, failed, dropped."""
        with self.sessions() as session:
            return session.execute(
                text("SELECT state, succeeded, failed, dropped FROM jobs WHERE id = :id"), {"id": job_id}
            ).one()

    def log(self, name: str) -> str:
        """What a service has logged so far."""
        return (self.stack.folders.logs / f"{name}.log").read_text(errors="replace")

    def settle(self, seconds: float = 60) -> None:
        """Wait until all jobs ended; then the invariant of the ledger holds."""
        self.wait_until(lambda: self.count("SELECT count(*) FROM jobs WHERE ended_at IS NULL") == 0, seconds)
        assert_settled(self.sessions)

    def reset(self) -> None:
        """End what a test started, and empty the ledger."""
        for name in [*self.workers, *list(self.apis)[1:]]:
            # a test that is over need not wait for what it has broken
            self.kill_group(name)
            self.stack.supervisor.end(name)
        self.workers.clear()
        self.apis = {"api": self.port}
        # the API reads on meanwhile, and Postgres may break their deadlock at our cost
        self.wait_until(self.empty_ledger, RESET_SECONDS)
        self.broker.delete(QUEUE_KEY)

    def empty_ledger(self) -> bool:
        """Whether the ledger is empty now; False if a deadlock was broken at its cost."""
        try:
            self.change("TRUNCATE jobs, leases, workers, flows, queues, webhook_endpoints CASCADE")
        except OperationalError as error:
            if isinstance(error.orig, DeadlockDetected):
                return False
            raise
        return True

    def kill_group(self, name: str) -> None:
        """Kill a service with all its processes, frozen ones too."""
        pid = self.stack.pid(name)
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)

    def wait_seconds(self, seconds: float) -> None:
        """Keep the services up for a while."""
        until = time.monotonic() + seconds
        self.wait_until(lambda: time.monotonic() > until, seconds + 5)


def answers(port: int) -> bool:
    """Whether an API process is up."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def running() -> Iterator[Chaos]:
    """One service a module: what one has done to its Postgres and broker is not the next one's."""
    # pytest's own folder is closed to the user of Postgres when root runs it
    folder = Path(tempfile.mkdtemp(prefix="lensqueue-chaos-"))
    folder.chmod(0o711)
    service = Chaos(folder / "service")
    try:
        yield service
    finally:
        service.broker.close()
        service.close()
        shutil.rmtree(folder)


@pytest.fixture
def chaos(running: Chaos) -> Iterator[Chaos]:
    """An empty ledger, an API, and no worker yet."""
    yield running
    running.reset()
