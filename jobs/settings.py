"""What every process of the service reads from the environment; each door adds its own."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from engine.catalog import DEFAULT_MODEL, Catalog
from jobs.logs import LogFormat


class DatabaseSettings(BaseSettings):
    """Where the truth lies."""

    model_config = SettingsConfigDict(env_prefix="LENSQUEUE_", extra="ignore", protected_namespaces=())

    database_password_file: Path | None = None
    """A file with the password of `database_url`, which then needs none: a mounted secret is in nobody's
    environment."""
    database_url: str = Field("postgresql+psycopg://lensqueue@localhost/lensqueue", repr=False)
    """SQLAlchemy URL of Postgres 18."""

    @field_validator("database_url")
    @classmethod
    def _read_password(cls, url: str, info: ValidationInfo) -> str:
        file: Path | None = info.data.get("database_password_file")
        if file is None:
            return url
        try:
            password = file.read_text(encoding="utf-8").rstrip("\r\n")
            return make_url(url).set(password=password).render_as_string(hide_password=False)
        except (OSError, UnicodeError) as error:
            raise ValueError(f"its password cannot be read: {error}") from None
        except ArgumentError:
            # its own message shows the whole of it
            raise ValueError("it is no URL") from None


class ServiceSettings(DatabaseSettings):
    """Shared by the API and the workers."""

    log_format: LogFormat = "console"
    """`json` for whoever collects logs: one object a line."""
    broker_url: str = "redis://localhost:6379/0"
    """Celery URL of Redis or Valkey: `redis://host:port/db` or `redis+socket:///path`."""
    blobs: Path = Path(".lensqueue/blobs")
    """Folder of pictures, maps and thumbnails; the API and its workers share it."""
    model_paths: dict[str, Path] = Field(default_factory=dict)
    """Names mapped to local checkpoint folders, as JSON."""
    default_model: str = DEFAULT_MODEL
    """The model of jobs that name none."""
    s3_allowed: list[str] = Field(default_factory=list)
    """Prefixes of which pictures may be ingested, as `s3://bucket/folder/`, as JSON; none unless given."""

    def catalog(self) -> Catalog:
        """The supported checkpoints and the operator's own."""
        return Catalog(model_paths=self.model_paths)
