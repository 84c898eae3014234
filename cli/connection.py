"""A client for a command, and what the command ends with when the service says no."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from cli.console import notes
from cli.ending import FAILED, INTERRUPTED, PARTIAL, REFUSED, UNREACHABLE, USAGE, CommandError
from lensqueue_client import (
    Client,
    ConfigurationError,
    Job,
    LensqueueError,
    RefusedError,
    Retries,
    UnavailableError,
    UnreachableError,
)

RETRIES: Final = 4
"""Some six seconds: a person looks on."""
START: Final = "(start it with `make up`, or say where it is by --url or LENSQUEUE_URL)"
EXITS: Final = (
    "Ends with 0 when all is well, 1 when the service or the job failed, 2 when the command cannot be"
    " understood, 3 when the service refuses it, 4 when nothing answers, 5 when only some items of a job"
    " succeeded, 130 when it was interrupted."
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job: job_...")]


@dataclass(frozen=True, slots=True)
class Connection:
    """What was said of the service before the command."""

    url: str | None = None
    key: str | None = None


@contextmanager
def connected(context: typer.Context) -> Iterator[Client]:
    """A client with the options' address and key; what goes wrong ends the command with its own status."""
    given = context.find_object(Connection) or Connection()
    try:
        with Client(given.url, given.key, retries=Retries(times=RETRIES), on_retry=_say_again) as client:
            yield client
    except LensqueueError as error:
        raise ending_of(error) from error
    except BrokenPipeError:
        # whoever reads has enough; at its end Python would try once more to write what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # of what was given: a file that cannot be read or written
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise CommandError(named, USAGE) from error
    except (ValueError, LookupError) as error:
        raise CommandError(str(error), USAGE) from error
    except KeyboardInterrupt:
        notes.print("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None


def ending_of(error: LensqueueError, hint: str | None = None) -> CommandError:
    """What a command ends with to which the service said this, and what one may do about it."""
    if isinstance(error, UnreachableError):
        hint = START
    return CommandError(
        f"{error.message} {hint}" if hint else error.message,
        _status(error),
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        errors=error.errors,
    )


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


def _say_again(failure: LensqueueError, after_s: float) -> None:
    said = failure.message.rstrip(".")
    notes.print(f"{said}; trying again in {after_s:.0f} s ...", markup=False, soft_wrap=True)
