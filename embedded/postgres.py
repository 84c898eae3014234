"""The embedded Postgres: made by initdb, configured by its command line, reached by peer authentication."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql

from embedded.errors import ServiceFailedError
from embedded.folders import Folders, give_folder, write_file
from embedded.orphans import end_orphans
from embedded.process import Service
from embedded.users import current_user, plain_environment, run_as

if TYPE_CHECKING:
    from pathlib import Path

    from embedded.binaries import Binaries

NAME = "postgres"
PORT = 5432  # names the socket's file; nothing listens on a network
ROLE = DATABASE = "lensqueue"
SUPERUSER = "postgres"
PID_LINE, STATUS_LINE = 0, 7
MAX_PID_FILE_BYTES = 4096
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def database_url(folders: Folders) -> str:
    """The application's database, for SQLAlchemy with psycopg; other databases replace the path."""
    host = quote(str(folders.sockets), safe="")
    return f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={host}&port={PORT}"


def prepare_postgres(folders: Folders, binaries: Binaries) -> Service:
    """Make the cluster if there is none, write who may connect, and say how to run it."""
    end_orphans(NAME, folders.pg)
    if not folders.pg.exists():
        _initialise(folders, binaries)
    give_folder(folders.pg, folders.user)
    _write_access_rules(folders)
    # A list of folders to Postgres, hence the quotes.
    places = {
        "unix_socket_directories": f'"{folders.sockets}"',
        "hba_file": str(_hba_file(folders)),
        "ident_file": str(_ident_file(folders)),
    }
    settings = [word for name, value in (SETTINGS | places).items() for word in ("-c", f"{name}={value}")]
    return Service(
        name=NAME,
        argv=[str(binaries.postgres), "-D", str(folders.pg), *settings],
        env=plain_environment(),
        user=folders.user,
        log=folders.logs / "postgres.log",
        prepare=partial(_clear_the_way, folders),
        ready=partial(_is_ready, folders.pg),
        ready_timeout_s=60.0,  # crash recovery replays the log first
        stop_signal=signal.SIGINT,
        stop_grace_s=30.0,
        death_signal=signal.SIGQUIT,
        restart=True,
        foundation=True,
    )


def create_database(folders: Folders) -> None:
    """Make the application's role and database where missing; pgvector comes with every new database."""
    with psycopg.connect(
        host=str(folders.sockets), port=PORT, user=SUPERUSER, dbname="template1", autocommit=True
    ) as connection:
        # Not a trusted extension: only a superuser may create it, so databases made later inherit it.
        connection.execute("create extension if not exists vector")
        if not connection.execute("select from pg_roles where rolname = %s", [ROLE]).rowcount:
            connection.execute(sql.SQL("create role {} login createdb").format(sql.Identifier(ROLE)))
        if not connection.execute("select from pg_database where datname = %s", [DATABASE]).rowcount:
            statement = sql.SQL("create database {} owner {}")
            connection.execute(statement.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))


def _initialise(folders: Folders, binaries: Binaries) -> None:
    """Run initdb in a draft folder, so that a crash halfway leaves nothing that looks like a cluster."""
    draft = folders.pg.with_name("pg.new")
    run_as(folders.user, ["/bin/rm", "-rf", "--", str(draft)])
    give_folder(draft, folders.user)
    outcome = run_as(
        folders.user,
        [
            str(binaries.initdb),
            f"--pgdata={draft}",
            f"--username={SUPERUSER}",
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ],
    )
    if outcome.returncode != 0:
        raise ServiceFailedError(NAME, "could not be initialised", outcome.stdout.strip())
    draft.rename(folders.pg)


def _write_access_rules(folders: Folders) -> None:
    """Write them beside the cluster, whose folder is not ours; at each start, for the user of that start."""
    users = {current_user().name, folders.user.name}
    maps = [f'lensqueue "{user}" {role}\n' for user in sorted(users) for role in (ROLE, SUPERUSER)]
    write_file(_hba_file(folders), "local all all peer map=lensqueue\n", 0o644)
    write_file(_ident_file(folders), "".join(maps), 0o644)


def _hba_file(folders: Folders) -> Path:
    return folders.conf / "pg_hba.conf"


def _ident_file(folders: Folders) -> Path:
    return folders.conf / "pg_ident.conf"


def _clear_the_way(folders: Folders) -> None:
    """Remove lock files whose process id was given to a stranger meanwhile; Postgres would believe them.

    Where the process is gone altogether Postgres sees that itself, and checks its shared memory too.
    """
    end_orphans(NAME, folders.pg)
    lines = _read_pid_file(folders.pg)
    if lines and lines[PID_LINE].isdigit() and _is_alive(int(lines[PID_LINE])):
        locks = [folders.pg / "postmaster.pid", folders.sockets / f".s.PGSQL.{PORT}.lock"]
        run_as(folders.user, ["/bin/rm", "-f", "--", *map(str, locks)])


def _is_ready(pg: Path, pid: int) -> bool:
    lines = _read_pid_file(pg)
    return (
        len(lines) > STATUS_LINE
        and lines[PID_LINE] == str(pid)  # not that of a server before this one
        and lines[STATUS_LINE].strip() == "ready"
    )


def _read_pid_file(pg: Path) -> list[str]:
    with suppress(OSError):
        descriptor = os.open(pg / "postmaster.pid", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_PID_FILE_BYTES).decode(errors="replace").splitlines()
    return []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
