"""The schema's version: bringing a database up to it, and telling whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import TextClause, text

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


class NotFitError(RuntimeError):
    """The database lacks what the schema needs; the message says what to do."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to a revision; safe to call when there is nothing to do.

    Raises:
        NotFitError: the database lacks an extension; nothing was changed.
    """
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Undo migrations down to a revision; `base` empties the schema."""
    command.downgrade(_config(database_url), revision)


def head() -> str:
    """The newest revision that this code knows."""
    revision = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if revision is None:
        raise RuntimeError(f"{MIGRATIONS} holds no migrations")
    return revision


def is_known(revision: str) -> bool:
    """Whether this code has the migration; one that it has not is a newer version's."""
    return revision in {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}


def applied() -> TextClause:
    """The revision that a database is at."""
    return text("SELECT version_num FROM alembic_version")


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config
