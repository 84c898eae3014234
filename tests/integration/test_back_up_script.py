"""The script that backs up a service in containers, on a real Postgres."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from embedded.binaries import client_program
from jobs.keys import create_key
from jobs.maintenance import LOCK_SPACE, REMOVING
from tests.rendered import KUBERNETES

SCRIPT = KUBERNETES / "components" / "back-up" / "back-up.sh"
RESTORE = SCRIPT.with_name("restore.sh")
FREE = "SELECT count(*) FILTER (WHERE pg_try_advisory_lock({space}, duty)) FROM unnest(ARRAY{duties}) AS duty"


def reached(database_url: str) -> dict[str, str]:
    """The database, as programs of Postgres are told it."""
    url = make_url(database_url)
    host = str(url.query.get("host", url.host))
    told = {"PGHOST": host, "PGUSER": url.username or "", "PGDATABASE": url.database or ""}
    return {**told, "PGPORT": str(url.port or url.query.get("port", 5432))}


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """What the script is told, and folders as the service has them."""
    for name in ("blobs", "backups", "programs"):
        (tmp_path / name).mkdir()
    for name in ("t/sources/archive", "t/pictures/copies", "t/copies/drawn", ".drafts/half"):
        file = tmp_path / "blobs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "password").write_text("unused\n")
    programs = client_program("psql").parent
    return {
        **reached(database_url),
        "PATH": f"{tmp_path / 'programs'}:{programs}:{os.environ['PATH']}",
        "PASSWORD_FILE": str(tmp_path / "password"),
        "BLOBS": str(tmp_path / "blobs"),
        "BACKUPS": str(tmp_path / "backups"),
    }


def dump_by(environment: dict[str, str], script: str) -> None:
    """Have something done in the place of pg_dump, or before it."""
    program = Path(environment["PATH"].partition(":")[0], "pg_dump")
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def back_up(environment: dict[str, str]) -> tuple[int, list[Path]]:
    """How the script ended, and the folders that it left."""
    done = subprocess.run(["/bin/sh", str(SCRIPT)], env=environment, check=False, timeout=60)
    return done.returncode, sorted(Path(environment["BACKUPS"]).iterdir())


def names_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return {member.name for member in opened if member.isfile()}


def test_what_it_leaves_can_be_restored_and_nothing_was_removed_meanwhile(
    environment: dict[str, str], sessions: sessionmaker[Session], empty_database_url: str, tmp_path: Path
) -> None:
    with sessions.begin() as session:
        create_key(session, name="kept", tenant="t")
    dump = client_program("pg_dump")
    free = FREE.format(space=LOCK_SPACE, duties=[*REMOVING])
    dump_by(
        environment, f'psql --tuples-only --no-align --command "{free}" > {tmp_path}/free\nexec {dump} "$@"'
    )
    code, (folder,) = back_up(environment)
    assert code == 0
    assert folder.suffix == ".complete"
    assert (tmp_path / "free").read_text().strip() == "0"
    assert names_in(folder / "sources.tar") == {"./t/sources/archive"}
    assert names_in(folder / "blobs.tar") == {"./t/sources/archive", "./t/pictures/copies"}
    target = {**environment, **reached(empty_database_url), "BACKUP": folder.name}
    (tmp_path / "blobs" / "t" / "newer").write_text("of what is replaced")
    # twice: what is there already is replaced
    for _ in range(2):
        subprocess.run(["/bin/sh", str(RESTORE)], env=target, check=True, timeout=60)
    files = {
        str(file.relative_to(tmp_path / "blobs"))
        for file in (tmp_path / "blobs").rglob("*")
        if file.is_file()
    }
    assert files == {"t/sources/archive", "t/pictures/copies"}
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT name FROM api_keys")).all() == ["kept"]
    engine.dispose()


def test_the_newest_are_kept_and_what_is_no_backup_goes(environment: dict[str, str]) -> None:
    backups = Path(environment["BACKUPS"])
    older = ["20250101T000000Z.complete", "20250102T000000Z.complete", "20250103T000000Z", "notes"]
    for name in older:
        (backups / name).mkdir()
        (backups / name / "database.dump").write_text("")
        os.utime(backups / name, (0, 0))
    code, left = back_up({**environment, "KEEP": "2"})
    assert code == 0
    oldest, new, other = (folder.name for folder in left)
    assert (oldest, other) == ("20250102T000000Z.complete", "notes")
    assert new > oldest


def test_one_that_fails_takes_no_other_away(environment: dict[str, str]) -> None:
    (Path(environment["BACKUPS"]) / "20250101T000000Z.complete").mkdir()
    dump_by(environment, "exit 1")
    code, left = back_up({**environment, "KEEP": "1"})
    assert code != 0
    assert left[0].name == "20250101T000000Z.complete"


def test_a_dump_that_fails_fails_all_of_it(environment: dict[str, str]) -> None:
    dump_by(environment, "exit 1")
    code, (folder,) = back_up(environment)
    assert code != 0
    assert folder.suffix == ""


def test_one_whose_locks_were_lost_meanwhile_is_not_called_complete(environment: dict[str, str]) -> None:
    lost = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 3"
    dump_by(environment, f'psql --output=/dev/null --command "{lost}"\nexec {client_program("pg_dump")} "$@"')
    code, (folder,) = back_up(environment)
    assert code != 0
    assert (folder / "blobs.tar").exists()
    assert folder.suffix == ""


def test_only_a_complete_backup_is_put_in_the_place_of_what_is_there(environment: dict[str, str]) -> None:
    for name in ("", "20250101T000000Z", "20250101T000000Z.complete"):
        told = {**environment, "BACKUP": name}
        done = subprocess.run(["/bin/sh", str(RESTORE)], env=told, check=False, timeout=60)
        assert done.returncode != 0
    assert (Path(environment["BLOBS"]) / "t" / "sources" / "archive").exists()
