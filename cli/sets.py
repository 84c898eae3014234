"""`lensqueue sets`: image sets, made, filled from folders, sealed and looked at."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from cli.connection import EXITS, JsonOption, connected
from cli.console import notes
from cli.ending import PARTIAL, print_json
from cli.listing import print_rows
from cli.progress import bar
from cli.set_files import SetArgument, ingest
from cli.set_search import search
from lensqueue_client import FolderAdded, ImageSet, ImageSetVersion

sets = typer.Typer(
    help="Image sets: named collections of pictures, sealed in versions.", no_args_is_help=True
)

PAGE_SETS: Final = 100
NAMES_SHOWN: Final = 5
HEADS: Final = ("version", "number", "items", "not added", "labelled", "MB", "sealed", "manifest")

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Pictures, also in folders inside it.")
]


@sets.command(epilog=EXITS)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    source: Annotated[str, typer.Option(help="Where its pictures come from.")] = "",
    licence: Annotated[str, typer.Option(help="What its pictures may be used for.")] = "",
    notes_: Annotated[str, typer.Option("--notes", help="Whatever else is to be known.")] = "",
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent again with the same key, it is the same set.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty image set and print its id."""
    with connected(context) as client:
        made = client.create_set(
            name, source=source, licence=licence, notes=notes_, idempotency_key=idempotency_key
        )
    if as_json:
        print_json(made.raw)
    else:
        typer.echo(made.id)


@sets.command("list", epilog=EXITS)
def list_sets(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List image sets, newest first, each with its last version."""
    with connected(context) as client:
        found = list(islice(client.image_sets(page_size=min(limit, PAGE_SETS)), limit))
    if as_json:
        print_json({"items": [each.raw for each in found]})
        return
    print_rows(("set", "name", *HEADS[1:-1]), [_listed(each) for each in found])


@sets.command(epilog=EXITS)
def show(context: typer.Context, image_set: SetArgument, as_json: JsonOption = False) -> None:
    """Show what is said of an image set, and its versions, the last one first."""
    with connected(context) as client:
        found = client.image_set(image_set)
    if as_json:
        print_json(found.raw)
        return
    said = {"source": found.source, "licence": found.licence, "notes": found.notes}
    told = "".join(f"; {name}: {value}" for name, value in said.items() if value)
    notes.print(f"{found.name}{told}", markup=False, soft_wrap=True)
    print_rows(
        HEADS, [(each.id, *_counts(each), each.manifest_sha256 or "") for each in found.versions or ()]
    )


@sets.command(epilog=EXITS)
def add(
    context: typer.Context,
    image_set: SetArgument,
    folder: FolderArgument,
    labels_from_folders: Annotated[
        bool,
        typer.Option(
            "--labels-from-folders", help="A picture's true label is the name of the folder that it lies in."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add the pictures of a folder that the set does not have yet; run again, it goes on where it was.

    A picture goes by its path from the folder on. A file that is no picture whatever its name says is an item
    with its error; the command ends with 5 then.
    """
    with connected(context) as client, bar("Add") as shown:
        task = shown.add_task("", total=None)

        def tell(far: FolderAdded) -> None:
            shown.update(task, total=far.total, completed=far.there + far.added)

        done = client.add_folder(image_set, folder, labels_from_folders=labels_from_folders, on_progress=tell)
    if as_json:
        print_json(_document(done))
    else:
        _say(image_set, done)
    raise typer.Exit(PARTIAL if done.failed else 0)


sets.command(epilog=EXITS)(ingest)
sets.command(epilog=EXITS)(search)


@sets.command(epilog=EXITS)
def seal(context: typer.Context, image_set: SetArgument, as_json: JsonOption = False) -> None:
    """Seal what was added and print the id of the version, which never changes again."""
    with connected(context) as client:
        version = client.seal(image_set)
    if as_json:
        print_json(version.raw)
        return
    typer.echo(version.id)
    without = f", {version.failed} with an error in place of a picture" if version.failed else ""
    notes.print(f"version {version.number} has {version.items} items{without}; {version.manifest_sha256}")


@sets.command(epilog=EXITS)
def delete(context: typer.Context, image_set: SetArgument, as_json: JsonOption = False) -> None:
    """Delete an image set with its versions; jobs over it and its pictures stay."""
    with connected(context) as client:
        client.delete_set(image_set)
    if as_json:
        print_json({"id": image_set, "deleted": True})
    else:
        notes.print(f"{image_set} is deleted.", markup=False)


def _say(image_set: str, done: FolderAdded) -> None:
    if done.added:
        counts = [f"{done.added} added", *([f"{done.there} there already"] if done.there else [])]
        notes.print(f"{', '.join(counts)} of {done.total} pictures", markup=False)
    else:
        there = f"all {done.total} were there already" if done.total else "there are none in the folder"
        notes.print(f"Nothing was added of {done.total} pictures: {there}.", markup=False)
    if done.failed:
        notes.print(f"{done.failed} of them are no pictures, and are items with an error.", markup=False)
    if done.passed_over:
        names = ", ".join(ascii(path.name)[1:-1] for path in done.passed_over[:NAMES_SHOWN])
        more = len(done.passed_over) - NAMES_SHOWN
        rest = f" and {more} more" if more > 0 else ""
        notes.print(f"No pictures, passed over: {names}{rest}", markup=False, soft_wrap=True)
    notes.print(f"Seal it with `lensqueue sets seal {image_set}`.", markup=False, soft_wrap=True)


def _document(done: FolderAdded) -> dict[str, Any]:
    return {
        "total": done.total,
        "there": done.there,
        "added": done.added,
        "failed": done.failed,
        "passed_over": [ascii(str(path))[1:-1] for path in done.passed_over],
    }


def _listed(found: ImageSet) -> list[str]:
    return [found.id, escape(found.name), *_counts(found.last_version)]


def _counts(version: ImageSetVersion) -> list[str]:
    numbers = [version.number, version.items, version.failed or "", version.labelled or ""]
    sealed = "" if version.sealed_at is None else f"{version.sealed_at.astimezone():%Y-%m-%d %H:%M}"
    return [*map(str, numbers), f"{version.image_bytes / 1e6:.1f}", sealed]
