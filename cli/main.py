"""The `lensqueue` command."""

import logging

import typer

from cli import demo, keys, processes, up
from jobs import logs

# a person reads what commands print: what went well needs no line
logs.configure(logging.WARNING)
app = typer.Typer(
    help="What SigLIP sees, layer by layer: an asynchronous job service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(demo.demo)
app.command()(processes.api)
app.command()(processes.worker)
app.command()(processes.migrate)
app.add_typer(keys.app, name="keys")
