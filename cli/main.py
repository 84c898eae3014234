"""The `lensqueue` command."""

import typer

from cli import demo, keys, processes, up
from jobs import logs

logs.configure()
app = typer.Typer(
    help="What SigLIP sees, layer by layer: an asynchronous job service.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(up.up)
app.command()(demo.demo)
app.command()(processes.api)
app.command()(processes.worker)
app.command()(processes.migrate)
app.add_typer(keys.app, name="keys")
