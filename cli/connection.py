"""A client for a command, and what the command ends with when the service says no."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from lensqueue_client import (
    Client,
    ConfigurationError,
    Job,
    LensqueueError,
    RefusedError,
    Retries,
    UnavailableError,
)

FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
UNREACHABLE: Final = 4
PARTIAL: Final = 5
INTERRUPTED: Final = 130
RETRIES: Final = 4
"""Some six seconds: a person looks on."""
EXITS: Final = (
    "Ends with 0 when all is well, 1 when the service or the job failed, 2 when the command cannot be"
    " understood, 3 when the service refuses it, 4 when nothing answers, 5 when only some items of a job"
    " succeeded, 130 when it was interrupted."
)

notes = Console(stderr=True, highlight=False)
"""Progress and whatever else is for a person: stdout is for what was asked for."""

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job: job_...")]


@dataclass(frozen=True, slots=True)
class Connection:
    """What was said of the service before the command."""

    url: str | None = None
    key: str | None = None


@contextmanager
def connected(context: typer.Context, *, as_json: bool) -> Iterator[Client]:
    """A client with the options' address and key; what goes wrong ends the command with its own status."""
    given = context.find_object(Connection) or Connection()
    try:
        with Client(given.url, given.key, retries=Retries(times=RETRIES)) as client:
            yield client
    except LensqueueError as error:
        end_with(error, as_json=as_json)
    except BrokenPipeError:
        # whoever reads has enough; at its end Python would try once more to write what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, LookupError) as error:
        # of what was given: a file that cannot be read, a name without a format
        _end(str(error), {"code": "usage", "message": str(error)}, USAGE, as_json=as_json)
    except KeyboardInterrupt:
        notes.print("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None


def end_with(error: LensqueueError, *, as_json: bool) -> NoReturn:
    """Say what the service said, and end with the status of its kind."""
    told = {
        "code": error.code,
        "message": error.message,
        "status": error.status,
        "request_id": error.request_id,
        "errors": error.errors,
    }
    _end(error.message, told, _status(error), as_json=as_json)


def print_json(document: Any) -> None:
    """The one JSON document of a command."""
    json.dump(document, sys.stdout, indent=1 if sys.stdout.isatty() else None, ensure_ascii=False)
    sys.stdout.write("\n")


def exit_of(job: Job) -> int:
    """What a command ends with that saw a job end."""
    if job.complete:
        return 0
    return FAILED if job.fruitless else PARTIAL


def parse_tags(given: list[str] | None) -> dict[str, str]:
    """Tags out of `key:value`."""
    tags = dict(each.split(":", 1) for each in given or () if ":" in each.strip(":"))
    if len(tags) < len(given or ()):
        raise typer.BadParameter("give each tag once, as key:value", param_hint="--tag")
    return tags


def _status(error: LensqueueError) -> int:
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, UnavailableError):
        return UNREACHABLE
    return REFUSED if isinstance(error, RefusedError) else FAILED


def _end(message: str, told: Mapping[str, Any], status: int, *, as_json: bool) -> NoReturn:
    typer.echo(f"lensqueue: {message}", err=True)
    for fault in told.get("errors") or ():
        typer.echo(f"  {fault.get('pointer', '')}: {fault.get('message', '')}", err=True)
    if as_json:
        print_json({"error": told})
    raise typer.Exit(status)
