"""The `lensqueue` command."""

import logging
from typing import Annotated, ClassVar

import typer

from cli import job_commands, many_jobs, pairs, results, service_commands, sets, submission, summaries
from cli.connection import EXITS, Connection
from cli.ending import EndingGroup
from jobs import logs

SERVICE, JOBS, LOOK = "The service on this machine", "Jobs", "Look around"

# a person reads what commands print: what went well needs no line
logs.configure(logging.WARNING)


class Commands(EndingGroup):
    """Those of the service stand on its tables and its stack, which clients can do without."""

    lazy: ClassVar = {
        "up": (SERVICE, "cli.up:up"),
        "demo": (SERVICE, "cli.demo:demo"),
        "analyze": (SERVICE, "cli.analyze:analyze"),
        "api": (SERVICE, "cli.processes:api"),
        "worker": (SERVICE, "cli.processes:worker"),
        "migrate": (SERVICE, "cli.processes:migrate"),
        "backup": (SERVICE, "cli.backups:backup"),
        "restore": (SERVICE, "cli.backups:restore"),
        "keys": (SERVICE, "cli.keys:app"),
        "admin": (SERVICE, "cli.admin:app"),
        "doctor": (SERVICE, "cli.doctor:doctor"),
    }


app = typer.Typer(
    cls=Commands,
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
            envvar="LENSQUEUE_URL",
            help="Where the service is. Unless given, at the address in .lensqueue/url, where `lensqueue up`"
            " leaves it; without that, at http://localhost:8000.",
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


for of_job in (
    *(submission.submit, submission.watch, results.results, submission.rescore),
    *(summaries.summarise, pairs.compare, pairs.drift),
    *(job_commands.cancel, job_commands.retry, job_commands.delete, job_commands.reproduce),
):
    app.command(rich_help_panel=JOBS, epilog=EXITS)(of_job)
for to_look in (service_commands.models, job_commands.usage):
    app.command(rich_help_panel=LOOK, epilog=EXITS)(to_look)
app.add_typer(sets.sets, name="sets", rich_help_panel=JOBS)
app.add_typer(many_jobs.jobs, name="jobs", rich_help_panel=LOOK)
app.add_typer(service_commands.workers, name="workers", rich_help_panel=LOOK)
app.add_typer(service_commands.queues, name="queues", rich_help_panel=LOOK)
