"""The service's processes, one command each, for those who bring their own Postgres and Redis."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from sqlalchemy.exc import OperationalError

from cli.console import fail, read_settings
from cli.database import DEFAULT_STATE, stack_of
from embedded.postgres import database_url
from embedded.valkey import broker_url
from engine.errors import EngineError
from jobs.blobs import BlobStore
from jobs.settings import ServiceSettings
from models import schema
from models.queue import ANALYSIS

EXIT_REFUSED = 3


def api_argv(host: str, port: int) -> list[str]:
    """The API process; its settings are in the environment."""
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app"),
        *("--host", host, "--port", str(port), "--timeout-graceful-shutdown", "10"),
        # it logs its requests itself, without query strings; and believes no header of who sends them
        *("--no-access-log", "--no-proxy-headers"),
    ]


def worker_argv() -> list[str]:
    """A worker process; its settings are in the environment."""
    return [sys.executable, "-m", "worker"]


def worker_env(
    model: str, device: str | None = None, dtype: str | None = None, runtime: str | None = None
) -> dict[str, str]:
    """What a worker is told by its environment."""
    given = {
        "LENSQUEUE_MODEL": model,
        "LENSQUEUE_DEVICE": device,
        "LENSQUEUE_DTYPE": dtype,
        "LENSQUEUE_RUNTIME": runtime,
    }
    return {name: value for name, value in given.items() if value is not None}


def api(host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the HTTP API over LENSQUEUE_DATABASE_URL, LENSQUEUE_BROKER_URL and LENSQUEUE_BLOBS."""
    _become(api_argv(host, port), {})


def worker(
    model: Annotated[str | None, typer.Option(help="Checkpoint to load; its jobs are this worker's.")] = None,
    queue: Annotated[
        Literal["analysis"] | None,
        typer.Option(help="In the place of a model: work that needs none, on image sets."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, ...; a GPU if there is one.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="float32 unless given.")
    ] = None,
    runtime: Annotated[
        Literal["auto", "torch", "compiled", "openvino"] | None,
        typer.Option(help="What runs the vision tower; the fastest for the device unless given."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the `lensqueue up` that it works for; {DEFAULT_STATE} unless the environment"
            " says where the service is."
        ),
    ] = None,
) -> None:
    """Run the jobs of one model, or with `--queue analysis` those that need none.

    Exits with 3, saying why, when the checkpoint cannot be loaded.
    LENSQUEUE_DATABASE_URL, LENSQUEUE_BROKER_URL and LENSQUEUE_BLOBS are those of the API that it works for;
    without them it works for the `lensqueue up` of this folder.
    """
    settings = read_settings(ServiceSettings)
    if (model is None) == (queue is None):
        fail(f"give either --model NAME or --queue {ANALYSIS}")
    if model is not None:
        try:
            settings.catalog().find(model)
        except EngineError as error:
            fail(str(error), EXIT_REFUSED)
    given = worker_env(model or ANALYSIS, device, dtype, runtime)
    _become(worker_argv(), {**_service_env(state, settings), **given})


def migrate() -> None:
    """Bring the database to this version's schema and set up the blob folder."""
    settings = read_settings(ServiceSettings)
    try:
        BlobStore(settings.blobs).create()
    except OSError as error:
        fail(f"LENSQUEUE_BLOBS: cannot set up {settings.blobs}: {error}")
    try:
        schema.upgrade(settings.database_url)
    except OperationalError as error:
        fail(f"LENSQUEUE_DATABASE_URL: {str(error.orig).splitlines()[0]}")
    except schema.NotFitError as error:
        fail(str(error))
    typer.echo(f"The database is at {schema.head()}; blobs are kept in {settings.blobs}.")


def _service_env(state: Path | None, settings: ServiceSettings) -> dict[str, str]:
    """Where the service is, if `lensqueue up` runs it."""
    folders = stack_of(state, settings)
    if folders is not None:
        return {
            "LENSQUEUE_DATABASE_URL": database_url(folders),
            "LENSQUEUE_BROKER_URL": broker_url(folders),
            "LENSQUEUE_BLOBS": str(folders.blobs),
        }
    if "database_url" not in settings.model_fields_set:
        typer.echo(
            f"lensqueue: nothing runs on {DEFAULT_STATE} here, so Postgres is looked for at"
            f" {settings.database_url}; start `lensqueue up`, name its folder with --state, or set"
            " LENSQUEUE_DATABASE_URL, LENSQUEUE_BROKER_URL and LENSQUEUE_BLOBS",
            err=True,
        )
    return {}


def _become(argv: list[str], env: Mapping[str, str]) -> None:
    # exec, not a child: signals and exit status are the process's own
    os.execve(argv[0], argv, {**os.environ, **env})  # noqa: S606 - a list, no shell
