"""`python -m worker.ready`, as a container's probe runs it."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from jobs import workers
from models.worker import Worker
from tests.ledger import MODEL, WORKER, scalar
from worker import ready

ROOT = Path(__file__).resolve().parents[2]
LONG_AGO = "SELECT now() - interval '11 seconds'"


@pytest.fixture
def online(database_url: str, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of this host that has loaded."""
    monkeypatch.setenv("LENSQUEUE_DATABASE_URL", database_url)
    with sessions.begin() as session:
        workers.register(session, WORKER, model=MODEL, device="cpu", dtype="float32")
        workers.report_online(session, WORKER, device="cpu", dtype="float32", revision=None)


def change(sessions: sessionmaker[Session], values: dict[str, Any]) -> None:
    with sessions.begin() as session:
        session.execute(update(Worker).values(values))


@pytest.mark.usefixtures("online")
def test_a_worker_is_ready_when_it_is_online_and_while_it_drains(sessions: sessionmaker[Session]) -> None:
    assert ready.main() == 0
    change(sessions, {"state": "draining"})
    assert ready.main() == 0


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "changed",
    [
        {"state": "starting"},
        {"state": "failed", "error": {}},
        {"state": "offline"},
        {"hostname": "another"},
    ],
    ids=str,
)
def test_one_that_is_not_online_on_this_host_is_not(
    changed: dict[str, Any], sessions: sessionmaker[Session], capsys: pytest.CaptureFixture[str]
) -> None:
    change(sessions, changed)
    assert ready.main() == 1
    assert capsys.readouterr().err == f"no worker of {socket.gethostname()} is online\n"


@pytest.mark.usefixtures("online")
def test_one_that_is_not_heard_of_any_more_is_not(sessions: sessionmaker[Session]) -> None:
    change(sessions, {"seen_at": scalar(sessions, LONG_AGO)})
    assert ready.main() == 1


def test_without_a_database_no_worker_is_ready_and_the_probe_says_why_in_a_line() -> None:
    nowhere = {"LENSQUEUE_DATABASE_URL": "postgresql+psycopg://lensqueue@127.0.0.1:1/lensqueue"}
    answer = subprocess.run(
        [sys.executable, "-m", "worker.ready"],
        env={**os.environ, **nowhere},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 1
    assert "Connection refused" in answer.stderr
    assert answer.stderr.count("\n") == 1
