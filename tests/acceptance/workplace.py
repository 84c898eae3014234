"""A worker process at a real ledger and broker, with the duties done by this process: all but the API."""

import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from cli.processes import worker_argv, worker_env
from embedded.process import Service
from embedded.stack import Stack
from jobs.blobs import BlobStore
from jobs.broker import Inviter
from jobs.maintenance import keep, recovering
from jobs.submission import Submission, TextItem
from models import schema
from models.job import Job
from models.session import sync_sessions
from models.types import ENDED, JobType
from tests.ledger import MODEL, admit_and_submit, read, scalar

DUTY_SECONDS = 0.2


class Workplace:
    """Postgres, Valkey, a worker whose engine obeys (tests.engines), and the duties that recover work."""

    def __init__(self, state: Path, *, serving: str = MODEL, **settings: str) -> None:
        self.serving = serving
        self.stack = Stack(state)
        self.stack.start()
        folders = self.stack.folders
        self.env = {
            **os.environ,
            "LENSQUEUE_DATABASE_URL": self.stack.database_url,
            "LENSQUEUE_BROKER_URL": self.stack.broker_url,
            "LENSQUEUE_BLOBS": str(folders.blobs),
            "LENSQUEUE_ENGINE": "tests.engines:TroubledEngine",
            # nothing here is to come back by the end of a lease
            "LENSQUEUE_LEASE_SECONDS": "120",
            **settings,
        }
        schema.upgrade(self.stack.database_url)
        BlobStore(folders.blobs).create()
        self.sessions = sync_sessions(self.stack.database_url)
        self._inviter = Inviter(self.stack.broker_url)
        self._stop = threading.Event()
        self._duties = threading.Thread(
            target=keep, args=(self.sessions, recovering(self._inviter), DUTY_SECONDS, self._stop)
        )
        self._duties.start()
        argv, env = worker_argv(), {**self.env, **worker_env(serving, device="cpu")}
        log = folders.logs / "worker.log"
        self.stack.supervisor.start(
            Service(name="worker", argv=argv, env=env, log=log, stop_grace_s=30, restart=True)
        )
        self.wait_until(lambda: self.worker_state() == "online", 60)

    def submit(self, *texts: str, model: str = MODEL) -> uuid.UUID:
        items = [TextItem(each) for each in texts]
        return admit_and_submit(
            self.sessions, Submission(JobType.EMBEDDING, model, items, {"normalize": True})
        )

    def finish(self, job_id: uuid.UUID, seconds: float = 60) -> Job:
        self.wait_until(lambda: read(self.sessions, job_id).state in ENDED, seconds)
        return read(self.sessions, job_id)

    def wait_until_begun(self) -> None:
        self.wait_until(lambda: self.leases() > 0, 15)

    def leases(self) -> int:
        return int(scalar(self.sessions, "SELECT count(*) FROM leases"))

    def worker_state(self) -> str | None:
        state: str | None = scalar(
            self.sessions,
            "SELECT state FROM workers WHERE model = :model ORDER BY seen_at DESC",
            model=self.serving,
        )
        return state

    def parent(self) -> psutil.Process:
        pid = self.stack.pid("worker")
        assert pid is not None
        return psutil.Process(pid)

    def child(self) -> psutil.Process:
        """The process that holds the model."""
        (child,) = [each for each in self.parent().children() if "spawn_main" in " ".join(each.cmdline())]
        return child

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s; the worker's log:\n{self.log()}"
            self.stack.supervisor.watch_once()
            time.sleep(0.02)

    def log(self) -> str:
        return (self.stack.folders.logs / "worker.log").read_text(errors="replace")[-6_000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._duties.join()
        self._inviter.close()
        self.sessions.kw["bind"].dispose()
        self.stack.stop()
