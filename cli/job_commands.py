"""Commands about a job that was submitted: cancel, retry, delete and reproduce it."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from cli.connection import JobArgument, JsonOption, connected, ending_of
from cli.console import notes
from cli.ending import print_json
from cli.listing import print_rows
from engine.catalog import DEMO_MODEL, Catalog
from lensqueue_client import ConflictError, Job, Reproduction


def cancel(context: typer.Context, job: JobArgument, as_json: JsonOption = False) -> None:
    """Drop what waits of a job; what it has is kept."""
    with connected(context) as client:
        _tell(client.cancel(job), as_json=as_json)


def retry(
    context: typer.Context,
    job: JobArgument,
    scope: Annotated[
        Literal["failed_items", "all"], typer.Option(help="What is done again.")
    ] = "failed_items",
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent again with the same key, it is the same job.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Queue what failed of a job again and print the id of the new job."""
    with connected(context) as client:
        try:
            again = client.retry(job, scope, idempotency_key=idempotency_key)
        except ConflictError as error:
            hint = f"(`lensqueue retry {job} --scope all`)" if error.code == "nothing-to-retry" else None
            raise ending_of(error, hint) from error
        if as_json:
            print_json(again.raw)
        else:
            typer.echo(again.id)


def delete(context: typer.Context, job: JobArgument, as_json: JsonOption = False) -> None:
    """Delete a job that ended, with its results."""
    with connected(context) as client:
        client.delete(job)
    if as_json:
        print_json({"id": job, "deleted": True})
    else:
        notes.print(f"{job} is deleted.")


def reproduce(
    context: typer.Context,
    job: JobArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for request.json and reproduce.py.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the body that a job was submitted with; -o writes it, and a script of plain transformers."""
    with connected(context) as client:
        found = client.reproduce(job)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            (output / "request.json").write_text(json.dumps(found.body, indent=1) + "\n", encoding="utf-8")
            (output / "provenance.json").write_text(
                json.dumps(found.provenance, indent=1) + "\n", encoding="utf-8"
            )
            if found.script is not None:
                (output / "reproduce.py").write_text(found.script, encoding="utf-8")
            notes.print(f"Written to {output}. {_compare(found, output)}", markup=False, soft_wrap=True)
    if as_json:
        print_json({"request": found.body, "provenance": found.provenance, "script": found.script})
    elif output is None:
        print_json(found.body)


def usage(context: typer.Context, as_json: JsonOption = False) -> None:
    """What the key used, by day; with the scope admin, what its whole tenant did."""
    with connected(context) as client:
        told = client.usage()
    if as_json or not told.get("items"):
        print_json(told)
        return
    first = ["key_id", "day"]  # what people copy
    heads = [*first, *(name for name in told["items"][0] if name not in first)]
    print_rows(heads, [[_cell(row.get(name)) for name in heads] for row in told["items"]])


def _compare(found: Reproduction, output: Path) -> str:
    """How what was written is used."""
    if found.script is None:
        return "There is no script: it would compare labels that are texts, and the job has none."
    compare = f"Compare with `python {output / 'reproduce.py'} PICTURE"
    if not found.local:
        return f"{compare}`: {found.model} comes from the hub, or from a folder named behind the picture."
    folder = Catalog().find(DEMO_MODEL).source if found.model == DEMO_MODEL else "CHECKPOINT_FOLDER"
    return f"{compare} {folder}`: {found.model} is on no hub, whoever runs the service has that folder."


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else escape(str(value))


def _tell(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job.raw)
    else:
        notes.print(f"{job.id} {job.state}")
