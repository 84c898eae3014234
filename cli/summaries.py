"""`lensqueue summarise`: what a lens over an image set says of all of it, fetched and in a line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connection import JobArgument, JsonOption, connected
from cli.console import console
from cli.ending import print_json
from cli.pairs import OutOption, SeedOption, fetch_found
from lensqueue_client.errors import counted


def summarise(
    context: typer.Context,
    job: JobArgument,
    out: OutOption = Path("summarised"),
    compare_with: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Another job over the same version, set beside it.")
    ] = None,
    drift_from: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="A job over another version, from which drift is measured."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Summarise a lens over an image set that has ended: report, tables, and search by its embeddings."""
    with connected(context) as client:
        made = client.summarise(job, seed, compare_with=compare_with, drift_from=drift_from)
        told = fetch_found(client, made, out)
    if as_json:
        print_json(told)
    else:
        console.print(_line(told), soft_wrap=True)


def _line(told: dict[str, Any]) -> str:
    """What counts most, and how much more there is to be read."""
    said = [f"{told['items']} items"]
    if told["failed"]:
        said.append(f"{told['failed']} of them failed")
    if told["top1"] is not None:
        between = f"{told['ci_low']:.1%} to {told['ci_high']:.1%}"
        said.append(f"at the last layer {told['top1']:.1%} are right ({between}, n = {told['labelled']})")
    else:
        said.append(f"{told['labelled'] or 'none'} with a true label")
    if told["warnings"]:
        said.append(f"the report has {counted(told['warnings'], 'warning')}")
    return "; ".join(said)
