"""The `lensqueue` command."""

import logging
from typing import Annotated

import typer

from cli import demo, doctor, job_commands, keys, processes, results, service_commands, submission, up
from cli.connection import EXITS, Connection
from jobs import logs

# a person reads what commands print: what went well needs no line
logs.configure(logging.WARNING)
app = typer.Typer(
    help="What SigLIP sees, layer by layer: an asynchronous job service.",
    epilog=EXITS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def lensqueue(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="LENSQUEUE_URL", help="Where the service is; http://localhost:8000 unless given."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="LENSQUEUE_API_KEY",
            help="Others of this machine can see it here: rather set the variable. Unless given, that of"
            " .lensqueue/api-key.",
        ),
    ] = None,
) -> None:
    """What SigLIP sees, layer by layer: an asynchronous job service."""
    context.obj = Connection(url, key)


SERVICE, JOBS, LOOK = "The service on this machine", "Jobs", "Look around"
app.command(rich_help_panel=SERVICE)(up.up)
app.command(rich_help_panel=SERVICE)(demo.demo)
app.command(rich_help_panel=SERVICE)(processes.api)
app.command(rich_help_panel=SERVICE)(processes.worker)
app.command(rich_help_panel=SERVICE)(processes.migrate)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
app.command(rich_help_panel=SERVICE)(doctor.doctor)
for of_job in (
    *(submission.submit, submission.watch, results.results),
    *(job_commands.cancel, job_commands.retry, job_commands.delete, job_commands.reproduce),
):
    app.command(rich_help_panel=JOBS, epilog=EXITS)(of_job)
for to_look in (job_commands.jobs, service_commands.models, job_commands.usage):
    app.command(rich_help_panel=LOOK, epilog=EXITS)(to_look)
app.add_typer(service_commands.workers, name="workers", rich_help_panel=LOOK)
app.add_typer(service_commands.queues, name="queues", rich_help_panel=LOOK)
