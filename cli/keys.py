"""API keys from the command line."""

from typing import Annotated

import typer

from cli.console import read_settings
from jobs.keys import DEFAULT_TENANT, create_key
from jobs.settings import DatabaseSettings
from models.session import sync_sessions

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """API keys: made here, shown once, kept as hashes."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs it sees.")] = DEFAULT_TENANT,
) -> None:
    """Make a key and print it: the only time that it can be seen."""
    with sync_sessions(read_settings(DatabaseSettings).database_url).begin() as session:
        key = create_key(session, name=name, tenant=tenant).key
    typer.echo(key)
