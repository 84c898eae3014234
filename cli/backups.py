"""`lensqueue backup` and `lensqueue restore`: what `lensqueue up` keeps, in one folder and back.

The order is the point: no row of a backup names a file that is not in it. Files are written before their
rows, so the database is dumped first; and nobody removes a file until all are copied. An archive that is
being added to a set goes when it is added, hence those are copied before the dump too.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sqlalchemy.exc import DBAPIError

from cli.console import fail, notes
from cli.database import DEFAULT_STATE
from cli.progress import bar_of_bytes
from embedded.backups import copy_file, dump_database, files_below, restore_database
from embedded.errors import EmbeddedError
from embedded.folders import Folders, holds_data
from embedded.postgres import database_url
from embedded.running import running_folders
from embedded.stack import Stack
from jobs import copies, sources
from jobs.blobs import DRAFTS
from jobs.maintenance import hold_removals
from models import schema
from models.faults import first_line
from models.session import sync_sessions

FORM: Final = 1
TOLD: Final = "backup.json"
DUMP: Final = "database.dump"
BLOBS: Final = "blobs"
KEY: Final = "api-key"


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to; made, and readable by you alone.")],
    state: Annotated[Path, typer.Option(help="The folder of `lensqueue up`.")] = DEFAULT_STATE,
) -> None:
    """Copy what `lensqueue up` keeps, whether it runs or not: database, pictures, results, its key.

    Jobs go on meanwhile. The queue's messages are not copied: the database knows what waits.
    """
    if not holds_data(state):
        fail(f"{state} holds nothing of `lensqueue up`: name its folder with --state")
    with _telling(), _reached(state) as folders:
        _make_empty(folder)
        sessions = sync_sessions(database_url(folders))
        try:
            with sessions.begin() as session:
                revision = session.scalar(schema.applied())
                hold_removals(session)
                _copy_all(folders.blobs, folder / BLOBS, "Archives", only=sources.FOLDER)
                dump_database(folders, folder / DUMP)
                _copy_all(folders.blobs, folder / BLOBS, "Files")
        finally:
            sessions.kw["bind"].dispose()
        if (folders.state / KEY).exists():
            copy_file(folders.state / KEY, folder / KEY)
        # counted here: an archive may be gone by now from where it was copied
        sizes = [_bytes_of(folder / BLOBS / path) for path in files_below(folder / BLOBS)]
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        told = {"form": FORM, "made_at": made_at, "schema": revision, "files": len(sizes)}
        os.sync()
        # last: without it, it is no backup
        (folder / TOLD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    dumped = _size(_bytes_of(folder / DUMP))
    notes.print(f"{folder}: {dumped} of database, {len(sizes)} files of {_size(sum(sizes))}.", soft_wrap=True)


def restore(
    folder: Annotated[
        Path, typer.Argument(help="What `lensqueue backup` made.", exists=True, file_okay=False)
    ],
    state: Annotated[Path, typer.Option(help="A folder for `lensqueue up` that holds nothing yet.")],
) -> None:
    """Make a state folder of a backup, for a `lensqueue up` of the same version or a newer one."""
    told = _read(folder)
    if holds_data(state):
        fail(f"{state} holds data already: restore into a new folder")
    with _telling(f"; {state} is not whole: remove it before trying again"), Stack(state) as stack:
        folders = stack.folders
        # in the order of writing: what a row names is there before the row
        files = _copy_all(folder / BLOBS, folders.blobs, "Files")
        if files != told["files"]:
            fail(f"{folder / BLOBS} has {files} files, {told['files']} were backed up; remove {state}")
        restore_database(folders, folder / DUMP)
        if (folder / KEY).exists():
            copy_file(folder / KEY, folders.state / KEY)
        os.sync()
    notes.print(f"{state} is as it was on {told['made_at']}: lensqueue up --state {state}", soft_wrap=True)


@contextmanager
def _telling(more: str = "") -> Iterator[None]:
    """End the command with a line where something cannot be read, written or started."""
    try:
        yield
    except (EmbeddedError, OSError, shutil.Error) as error:
        fail(f"{error}{more}")
    except DBAPIError as error:
        # of a folder whose first start did not come to the schema, for one
        fail(f"{first_line(error)}{more}")


@contextmanager
def _reached(state: Path) -> Iterator[Folders]:
    """The servers of a state folder: those that run, else started for as long as this takes."""
    if (folders := running_folders(state)) is not None:
        yield folders
        return
    with Stack(state) as stack:
        yield stack.folders


def _make_empty(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        fail(f"{folder} is not empty: each backup has a folder of its own")
    folder.chmod(0o700)


def _copy_all(source: Path, target: Path, title: str, *, only: str | None = None) -> int:
    """Copy a blob store, or what lies in the folders of one name in it; returns how many files.

    But for what is half written, and copies of results, which are made again.
    """
    found = [
        path for path in files_below(source, {DRAFTS, copies.FOLDER}) if only is None or only in path.parts
    ]
    files = 0
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    with bar_of_bytes(title) as shown:
        task = shown.add_task("", total=sum(map(_bytes_of, (source / path for path in found))))
        for path in found:
            copied = copy_file(source / path, target / path)
            if copied is not None:
                files += 1
                shown.update(task, advance=copied)
    return files


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(folder: Path) -> dict[str, Any]:
    """What a backup says of itself; ends the command where it is none that can be restored."""
    try:
        told: dict[str, Any] = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        form, revision, _ = told["form"], told["schema"], told["files"]
    except FileNotFoundError:
        fail(f"{folder} is no backup, or one that did not come to its end: it has no {TOLD}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{folder / TOLD} cannot be read: {error}")
    if form != FORM or (revision is not None and not schema.is_known(revision)):
        fail(
            f"{folder} was made by a newer version of Lensqueue (schema {revision}): restore it with that one"
        )
    return told


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
