"""Backups: nothing that they name goes meanwhile, and what is none, or would overwrite, is refused."""

import hashlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import Session, sessionmaker

from embedded.backups import copy_file, files_below
from embedded.binaries import client_program
from embedded.postgres import ROLE
from embedded.stack import Stack
from jobs.blobs import SENTINEL, BlobStore
from jobs.copies import FOLDER
from jobs.keys import KEY, create_key, hash_key
from jobs.maintenance import REMOVING, hold_removals, run_out, tidying
from jobs.sources import KEPT
from jobs.text_cache import TextBudget
from models import schema
from models.session import sync_sessions
from tests.commands import run_here
from tests.faults import change
from tests.ingestions import keep
from tests.ledger import TENANT, scalar

Sessions = sessionmaker[Session]


@pytest.fixture
def backup_folder(tmp_path: Path) -> Path:
    """As `lensqueue backup` leaves it, by what `lensqueue restore` looks at first."""
    folder = tmp_path / "backup"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / SENTINEL).touch()
    (folder / "database.dump").write_bytes(b"no dump")
    told = {"form": 1, "made_at": "2026-01-01", "schema": schema.head(), "files": 1}
    (folder / "backup.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Which the services' user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="lensqueue-backups-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def tidy(sessions: Sessions, blobs: BlobStore) -> None:
    for duty in tidying(blobs, TextBudget()):
        run_out(sessions, duty, threading.Event())


def test_no_file_is_removed_while_a_backup_is_made(sessions: Sessions, blobs: BlobStore) -> None:
    sha256 = blobs.put(TENANT, b"a picture")
    change(
        sessions,
        "INSERT INTO images (tenant, sha256, image_bytes, dying_at)"
        " VALUES (:tenant, :sha256, 9, now() - interval '2 hours')",
        tenant=TENANT,
        sha256=sha256,
    )
    stored = keep(blobs, b"an archive")
    past = time.time() - KEPT.total_seconds() - 60
    for path in blobs.folder.rglob("*"):
        if path.is_file() and path.name in {sha256, stored.id.hex}:
            os.utime(path, (past, past))
    with sessions.begin() as session:
        hold_removals(session)
        tidy(sessions, blobs)
        assert blobs.get(TENANT, sha256) == b"a picture"
        assert list(blobs.folder.rglob(stored.id.hex))
    tidy(sessions, blobs)
    assert scalar(sessions, "SELECT count(*) FROM images") == 0
    assert not list(blobs.folder.rglob(sha256))
    assert not list(blobs.folder.rglob(stored.id.hex))


def test_every_duty_that_is_given_the_files_of_rows_is_held(blobs: BlobStore) -> None:
    given = {
        duty.lock for duty in tidying(blobs, TextBudget()) if "blobs" in getattr(duty.run, "keywords", {})
    }
    # drafts are named by no row
    assert given == {*REMOVING, 11}


def test_psql_holds_the_duties_off_while_its_script_runs(stack: Stack, database_url: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "back-up.md"
    (taken,) = re.findall(r"^SELECT pg_advisory_lock.*$", page.read_text(), re.MULTILINE)
    psql = f"{client_program('psql')} --host={stack.folders.sockets} --username={ROLE} --no-psqlrc"
    psql += f" {make_url(database_url).database}"
    held = "SELECT string_agg(objid::text, ' ' ORDER BY objid) FROM pg_locks WHERE locktype = 'advisory'"
    script = f'{taken}\n\\! {psql} --tuples-only --command="{held}"\n'
    done = subprocess.run(psql.split(), input=script, capture_output=True, text=True, check=True)
    assert " ".join(map(str, REMOVING)) in done.stdout


def test_a_service_that_is_stopped_is_backed_up_and_restored(open_folder: Path) -> None:
    state, folder, again = (open_folder / name for name in ("state", "backup", "again"))
    with Stack(state) as stack:
        schema.upgrade(stack.database_url)
        blobs = BlobStore(stack.folders.blobs)
        blobs.create()
        blobs.put(TENANT, b"a picture")
        (state / "api-key").write_text("lq_key")
        made = sync_sessions(stack.database_url)
        with made.begin() as session:
            key = create_key(session, name="kept").key
        made.kw["bind"].dispose()
    assert run_here("backup", str(folder), "--state", str(state)).returncode == 0
    done = run_here("restore", str(folder), "--state", str(again))
    assert done.returncode == 0, done.stderr
    assert (again / "api-key").read_text() == "lq_key"
    with Stack(again) as stack:
        made = sync_sessions(stack.database_url)
        with made.begin() as session:
            assert session.scalar(KEY, {"sha256": hash_key(key)}) is not None
        made.kw["bind"].dispose()
        store = BlobStore(stack.folders.blobs)
        store.check()
        assert store.get(TENANT, hashlib.sha256(b"a picture").hexdigest()) == b"a picture"
    told = json.loads((folder / "backup.json").read_text())
    assert (told["files"], told["schema"]) == (2, schema.head())


def test_a_folder_whose_first_start_broke_off_says_what_is_missing(open_folder: Path) -> None:
    with Stack(open_folder / "state"):
        pass
    done = run_here("backup", str(open_folder / "to"), "--state", str(open_folder / "state"))
    assert (done.returncode, "alembic_version" in done.stderr) == (1, True), done.stderr
    assert not (open_folder / "to" / "backup.json").exists()


def test_what_is_made_again_is_not_copied_and_what_is_gone_is_passed_over(
    blobs: BlobStore, tmp_path: Path
) -> None:
    sha256 = blobs.put(TENANT, b"a picture")
    copy = blobs.room(TENANT) / FOLDER / "job-copy"
    blobs.write(copy, [b"rows"])
    found = list(files_below(blobs.folder, {FOLDER}))
    assert {path.name for path in found} == {SENTINEL, sha256}
    (path,) = (path for path in found if path.name == sha256)
    assert copy_file(blobs.folder / path, tmp_path / path) == 9
    assert (tmp_path / path).read_bytes() == b"a picture"
    (blobs.folder / path).unlink()
    assert copy_file(blobs.folder / path, tmp_path / "other") is None
    assert not (tmp_path / "other").exists()


def test_a_folder_without_a_service_is_not_backed_up(tmp_path: Path) -> None:
    done = run_here("backup", str(tmp_path / "to"), "--state", str(tmp_path / "none"))
    assert (done.returncode, "--state" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_written_to(open_folder: Path) -> None:
    (open_folder / "state" / "blobs").mkdir(parents=True)
    (open_folder / "to").mkdir()
    (open_folder / "to" / "letter").write_text("dear")
    done = run_here("backup", str(open_folder / "to"), "--state", str(open_folder / "state"))
    assert (done.returncode, "is not empty" in done.stderr) == (1, True)
    assert (open_folder / "to" / "letter").read_text() == "dear"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "did not come to its end"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"form": 2, "schema": "0001", "files": 1, "made_at": ""}', "newer version"),
        ('{"form": 1, "schema": "9999", "files": 1, "made_at": ""}', "newer version"),
    ],
)
def test_what_is_no_backup_of_ours_is_refused(backup_folder: Path, told: str | None, said: str) -> None:
    if told is None:
        (backup_folder / "backup.json").unlink()
    else:
        (backup_folder / "backup.json").write_text(told)
    state = backup_folder.with_name("state")
    done = run_here("restore", str(backup_folder), "--state", str(state))
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not state.exists()


def test_a_folder_that_holds_data_is_not_restored_into(backup_folder: Path) -> None:
    state = backup_folder.with_name("state")
    (state / "pg").mkdir(parents=True)
    done = run_here("restore", str(backup_folder), "--state", str(state))
    assert (done.returncode, "holds data already" in done.stderr) == (1, True)


@pytest.mark.parametrize(("files", "said"), [(2, "2 were backed up"), (1, "pg_restore failed")])
def test_a_backup_that_is_damaged_is_said_to_be(
    backup_folder: Path, open_folder: Path, files: int, said: str
) -> None:
    told = json.loads((backup_folder / "backup.json").read_text())
    (backup_folder / "backup.json").write_text(json.dumps(told | {"files": files}))
    done = run_here("restore", str(backup_folder), "--state", str(open_folder / "state"))
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert f"remove {open_folder / 'state'}" in done.stderr or "remove it" in done.stderr
