"""`lensqueue results`: what a job found, as a table, as lines of JSON, or as a file."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from rich.markup import escape

from cli.connection import JobArgument, JsonOption, connected
from cli.console import console, notes
from cli.ending import USAGE, CommandError, print_json
from cli.listing import print_rows
from lensqueue_client import Client, Item, Job
from lensqueue_client.downloads import FORMATS
from lensqueue_client.errors import counted

SHOWN_ITEMS = 50
PAGED: Final = ".json"
"""The file that the service gives in pages only."""


def results(
    context: typer.Context,
    job: JobArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="FILE.parquet, .npz, .ndjson or .json; goes on where it broke off."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a job found: a table at the terminal, elsewhere a line of JSON an item; -o writes a file."""
    if output is not None and output.suffix.lower() not in {*FORMATS, PAGED}:
        formats = ", ".join(f"*{end}" for end in FORMATS)
        raise CommandError(f"{output}: call it {formats} or *{PAGED}; there is no other format", USAGE)
    with connected(context) as client:
        if output is not None:
            _save(client, job, output)
            told = {"path": str(output), "bytes": output.stat().st_size}
            if as_json:
                print_json(told)
            else:
                notes.print(
                    f"{told['path']}: {counted(output.stat().st_size, 'byte')}", markup=False, soft_wrap=True
                )
            _say_unless_whole(client.job(job))
            return
        items = client.results(job)
        if as_json:
            write_items(items, sys.stdout)
        elif console.is_terminal:
            show(items)
        else:
            for item in items:
                typer.echo(json.dumps(item.raw, ensure_ascii=False))
        _say_unless_whole(client.job(job))


def _say_unless_whole(job: Job) -> None:
    progress = job.progress
    settled = progress.succeeded + progress.failed
    if settled < progress.total:
        so_far = "" if job.done else " so far"
        notes.print(
            f"{job.id} is {job.state}: {settled} of {counted(progress.total, 'item')}{so_far}.",
            soft_wrap=True,
        )


def write_items(items: Iterable[Item], file: TextIO) -> None:
    """One document of them all, written as they come: a job may have a hundred thousand."""
    told: Iterator[str] = (json.dumps(item.raw, ensure_ascii=False) for item in items)
    # before anything is written: what is refused is told in a document of its own
    first = list(islice(told, 1))
    file.write('{"items": [')
    told = chain(first, told)
    file.writelines((", " if place else "") + each for place, each in enumerate(told))
    file.write("]}\n")


def _save(client: Client, job: str, output: Path) -> None:
    if output.suffix.lower() != PAGED:
        client.download(job, output)
        return
    draft = output.with_name(f"{output.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        write_items(client.results(job), file)
    draft.replace(output)


def show(items: Iterator[Item]) -> None:
    """The first of them as a table."""
    heads = ("item", "name", "state", "top label", "margin", "settle layer")
    shown = islice(items, SHOWN_ITEMS)
    print_rows(heads, [(str(item.index), escape(item.name), *_cells(item)) for item in shown])
    if next(items, None) is not None:
        console.print(f"... and more: `-o FILE.parquet` writes all of them; shown are {SHOWN_ITEMS}.")


def _cells(item: Item) -> list[str]:
    if item.error is not None:
        return [f"[red]{escape(item.error.code)}[/]", "", "", ""]
    top: Any = item.top
    if top is None:
        return [item.state, "", "", ""]
    margin = "" if top.margin is None else f"{top.margin:.3f}"
    return [item.state, escape(top.label), margin, "" if top.settle_layer is None else str(top.settle_layer)]
