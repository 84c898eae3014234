"""How commands speak to the person at the terminal."""

from typing import NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError
from rich.console import Console

from cli.ending import CommandError

console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)
"""Progress and whatever else is for a person: stdout is for what was asked for."""
Settings = TypeVar("Settings", bound=BaseSettings)


def fail(message: str, status: int = 1) -> NoReturn:
    """Say what went wrong and end the command."""
    raise CommandError(message, status)


def read_settings(kind: type[Settings]) -> Settings:
    """The settings of the environment; ends the command, naming the variable, when one cannot be read."""
    try:
        return kind()
    except SettingsError as error:
        fail(
            f"the environment's LENSQUEUE_ variables cannot be read: {error}; LENSQUEUE_MODEL_PATHS is JSON:"
            """ '{"name": "/folder"}'"""
        )
    except ValidationError as error:
        faults = [f"LENSQUEUE_{fault['loc'][0]}".upper() + f": {fault['msg']}" for fault in error.errors()]
        fail("; ".join(faults))
