"""`lensqueue results`: what a job found, as a table, as lines of JSON, or as a file."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.connection import JobArgument, JsonOption, connected, notes, print_json
from cli.console import console
from lensqueue_client import Item

SHOWN_ITEMS = 50


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
    with connected(context, as_json=as_json) as client:
        if output is not None:
            written = client.download(job, output)
            told = {"path": str(written), "bytes": written.stat().st_size}
            if as_json:
                print_json(told)
            else:
                notes.print(f"{told['path']}: {told['bytes']} bytes", markup=False, soft_wrap=True)
            return
        items = client.results(job)
        if as_json:
            write_items(items)
        elif console.is_terminal:
            show(items)
        else:
            for item in items:
                typer.echo(json.dumps(item.raw, ensure_ascii=False))


def write_items(items: Iterable[Item]) -> None:
    """One document of them all, written as they come: a job may have a hundred thousand."""
    sys.stdout.write('{"items": [')
    for place, item in enumerate(items):
        sys.stdout.write((", " if place else "") + json.dumps(item.raw, ensure_ascii=False))
    sys.stdout.write("]}\n")


def show(items: Iterator[Item]) -> None:
    """The first of them as a table."""
    table = Table("item", "name", "state", "top label", "margin", "settle layer")
    for item in islice(items, SHOWN_ITEMS):
        table.add_row(str(item.index), escape(item.name), *_cells(item))
    console.print(table)
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
