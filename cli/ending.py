"""How commands end that did not do what was asked: in a line on stderr, or with --json as one document."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperOption
from typer.exceptions import TyperException

from cli.lazy import LazyGroup

FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
UNREACHABLE: Final = 4
PARTIAL: Final = 5
INTERRUPTED: Final = 130
JSON_FLAG: Final = "--json"


class CommandError(TyperException):
    """A command cannot go on: what there is to say, its status, and what a document tells beside."""

    def __init__(self, message: str, exit_code: int = FAILED, **told: Any) -> None:
        """Keep what is known; `told` has the `code`, and perhaps `errors` with the places."""
        super().__init__(message)
        self.exit_code = exit_code
        self.told = {
            "code": "usage" if exit_code == USAGE else "failed",
            "message": message,
            "status": None,
            "request_id": None,
            "errors": [],
            **told,
        }


class EndingGroup(LazyGroup):
    """A group whose commands end as this module says."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        """Run a command and end the process."""
        given = sys.argv[1:] if args is None else list(args)
        try:
            given = self._forward(given)
            if JSON_FLAG not in given:
                # what cannot be understood is told by Typer
                sys.exit(super().main(given, *rest, **options))
            # Ctrl-C comes back as a status
            sys.exit(super().main(given, *rest, **{**options, "standalone_mode": False}))
        except CommandError as error:
            if JSON_FLAG in given:
                print_json({"error": error.told})
            else:
                _say(error)
            sys.exit(error.exit_code)
        except TyperException as error:
            misunderstood = CommandError(error.format_message(), error.exit_code)
            print_json({"error": misunderstood.told})
            sys.exit(error.exit_code)

    def _forward(self, given: Sequence[str]) -> list[str]:
        """The arguments, those in front that are options of all commands: many say them last."""
        named = [each.opts for each in self.params if isinstance(each, TyperOption) and not each.is_flag]
        names = {name for opts in named for name in opts}
        front: list[str] = []
        rest: list[str] = []
        arguments = iter(given)
        for argument in arguments:
            name, equals, _ = argument.partition("=")
            if argument == "--":
                rest += [argument, *arguments]
            elif name not in names:
                rest.append(argument)
            elif equals:
                front.append(argument)
            elif (value := next(arguments, None)) is None:
                raise CommandError(f"{name} needs a value", USAGE)
            else:
                front += [argument, value]
        return front + _json_last(rest)


def _json_last(given: list[str]) -> list[str]:
    """The arguments, with the flag of those commands that have it behind the command: many say it first."""
    if given[:1] != [JSON_FLAG] or given == [JSON_FLAG]:
        return given
    end = given.index("--") if "--" in given else len(given)
    return [*given[1:end], JSON_FLAG, *given[end:]]


def print_json(document: Any) -> None:
    """The one JSON document of a command."""
    json.dump(document, sys.stdout, indent=1 if sys.stdout.isatty() else None, ensure_ascii=False)
    sys.stdout.write("\n")


def _say(error: CommandError) -> None:
    typer.echo(f"lensqueue: {error.message}", err=True)
    for fault in error.told["errors"]:
        line = f"{fault.get('pointer', '')}: {fault.get('message', '')}"
        # the first one often is the message
        if line not in error.message:
            typer.echo(f"  {line}", err=True)
