"""Where commands that work on the database find it, and what they say when it is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from cli.console import fail, read_settings
from embedded.errors import EmbeddedError
from embedded.folders import Folders
from embedded.postgres import database_url
from embedded.running import running_folders
from jobs.settings import DatabaseSettings
from models.faults import first_line
from models.session import sync_sessions

DEFAULT_STATE = Path(".lensqueue")

StateOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a running `lensqueue up`, whose database it is. Unless given, LENSQUEUE_DATABASE_URL"
        f" says where that is; without it too, {DEFAULT_STATE} is looked at."
    ),
]


@contextmanager
def opened(state: Path | None) -> Iterator[Session]:
    """A transaction on the service's database; ends the command, saying what to do, when there is none."""
    url = _find(state)
    sessions = sync_sessions(url)
    try:
        with sessions.begin() as session:
            yield session
    except OperationalError as error:
        _fail_unreachable(error)
    except ProgrammingError as error:
        fail(f"the database has not this version's schema ({first_line(error)}): run `lensqueue migrate`")
    finally:
        sessions.kw["bind"].dispose()


def stack_of(state: Path | None, settings: DatabaseSettings) -> Folders | None:
    """The running `lensqueue up` that is meant; None where the settings' own addresses are.

    Ends the command when a folder is named on which nothing runs.
    """
    if state is None and "database_url" in settings.model_fields_set:
        return None
    try:
        folders = running_folders(state or DEFAULT_STATE)
    except EmbeddedError as error:
        fail(str(error))
    if folders is None and state is not None:
        fail(f"nothing runs on {state}: start it with `lensqueue up --state {state}`")
    return folders


def _find(state: Path | None) -> str:
    settings = read_settings(DatabaseSettings)
    folders = stack_of(state, settings)
    return settings.database_url if folders is None else database_url(folders)


def _fail_unreachable(error: OperationalError) -> NoReturn:
    fail(
        f"the database cannot be reached: {first_line(error)}. Set LENSQUEUE_DATABASE_URL to that of the"
        " API; or run the command where `lensqueue up` runs, with its folder as --state if that is not"
        f" {DEFAULT_STATE}"
    )
