"""How commands speak to the person at the terminal."""

from typing import NoReturn

import typer
from rich.console import Console

console = Console(highlight=False)


def fail(message: str, status: int = 1) -> NoReturn:
    """Say what went wrong on stderr and end the command."""
    typer.echo(f"lensqueue: {message}", err=True)
    raise typer.Exit(status)
