"""`lensqueue jobs`: list the jobs that a filter finds, or cancel, retry or delete them all."""

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, Any, Final, cast

import typer
from rich.markup import escape

from cli.connection import EXITS, JsonOption, connected, parse_tags
from cli.console import notes
from cli.ending import FAILED, INTERRUPTED, USAGE, CommandError, print_json
from cli.listing import print_rows
from lensqueue_client import Action, Client, Job
from lensqueue_client.actions import JobFilter, Verb
from lensqueue_client.errors import counted

jobs = typer.Typer(
    help="List jobs, newest first; or act on all that a filter finds.", invoke_without_command=True
)
PAGE_JOBS: Final = 100

States = Annotated[list[str] | None, typer.Option("--state", help="Of this state; repeat for others.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Of this type; repeat for others.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Of this model; repeat for others.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="With this key:value; repeat: with all.")]
After = Annotated[str | None, typer.Option(help="Submitted later than 2026-01-31T12:00:00Z.")]
Before = Annotated[str | None, typer.Option(help="Submitted earlier than 2026-01-31T12:00:00Z.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is to be done.")]
ReasonOption = Annotated[str | None, typer.Option(help="Kept with the action, for whoever asks later.")]


@jobs.callback(epilog=EXITS)
def list_jobs(
    context: typer.Context,
    state: States = None,
    kind: Types = None,
    model: Models = None,
    tag: Tags = None,
    created_after: After = None,
    created_before: Before = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first; or act on all that a filter finds."""
    filters: dict[str, Any] = {"state": state, "type": kind, "model": model, "tag": tag}
    filters |= {"created_after": created_after, "created_before": created_before}
    if context.invoked_subcommand:
        # left out of what is acted upon, they would let it find more jobs than were meant
        if as_json or any(filters.values()):
            raise typer.BadParameter(f"options of {context.invoked_subcommand} stand behind it")
        return
    with connected(context) as client:
        found = list(islice(client.jobs(page_size=min(limit, PAGE_JOBS), **filters), limit))
    if as_json:
        print_json({"items": [job.raw for job in found]})
        return
    heads = ("job", "type", "model", "state", "done", "failed", "created", "tags")
    print_rows(heads, [_row(job) for job in found])


def acting(verb: Verb) -> Callable[..., None]:
    """The command that does this to many jobs."""

    def act(
        context: typer.Context,
        state: States = None,
        kind: Types = None,
        model: Models = None,
        tag: Tags = None,
        created_after: After = None,
        created_before: Before = None,
        reason: ReasonOption = None,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        given: dict[str, Any] = {"state": state, "type": kind, "model": model, "tags": parse_tags(tag)}
        given |= {"created_after": created_after, "created_before": created_before}
        wanted = cast("JobFilter", {name: value for name, value in given.items() if value})
        with connected(context) as client:
            count = client.count_jobs(verb, **wanted)
            if not yes:
                _ask(verb, count, as_json=as_json)
            _end(_stay(client, client.act_on_jobs(verb, count, reason=reason, **wanted)), as_json=as_json)

    return act


VERBS: Final[Mapping[Verb, str]] = {
    "cancel": "Drop what waits of all jobs that the options find.",
    "retry": "Queue again what failed of all jobs that the options find, each as a new job.",
    "delete": "Delete all jobs that the options find and that have ended, with their results.",
}
for command, what in VERBS.items():
    jobs.command(command, help=what, epilog=EXITS)(acting(command))


@jobs.command()
def actions(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what was done to many jobs at once, newest first, and how far it is."""
    with connected(context) as client:
        found = list(islice(client.actions(page_size=min(limit, PAGE_JOBS)), limit))
    if as_json:
        print_json({"items": [action.raw for action in found]})
        return
    heads = ("action", "what", "state", "jobs", "done", "skipped", "reason")
    print_rows(heads, [_told(action) for action in found])


def _ask(verb: str, count: int, *, as_json: bool) -> None:
    what = counted(count, "job")
    if as_json or not sys.stdin.isatty():
        raise CommandError(f"{what} found; add --yes to {verb} {'it' if count == 1 else 'them'}", USAGE)
    typer.confirm(f"{verb} {what}?", abort=True, err=True)


def _stay(client: Client, action: Action) -> Action:
    try:
        return client.wait_for_action(action)
    except KeyboardInterrupt:
        notes.print(f"{action.id} goes on without you; see it again with `lensqueue jobs actions`.")
        raise typer.Exit(INTERRUPTED) from None


def _end(action: Action, *, as_json: bool) -> None:
    if as_json:
        print_json(action.raw)
    else:
        typer.echo(action.id)
        why = f"; {action.error.message}" if action.error else ""
        notes.print(f"{action.done} done, {action.skipped} skipped{why}", markup=False, soft_wrap=True)
    raise typer.Exit(FAILED if action.error else 0)


def _told(action: Action) -> list[str]:
    counts = [str(number) for number in (action.matched, action.done, action.skipped)]
    return [action.id, action.action, action.state, *counts, escape(action.reason or "")]


def _row(job: Job) -> list[str]:
    progress = job.progress
    created = "" if job.created_at is None else f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
    tags = " ".join(f"{key}:{value}" for key, value in job.tags.items())
    done = f"{progress.succeeded}/{progress.total}"
    failed = str(progress.failed or "")
    return [job.id, job.type, escape(job.model), job.state, done, failed, created, escape(tags)]
