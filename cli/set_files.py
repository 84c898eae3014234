"""`lensqueue sets ingest`: an archive, a manifest or a prefix of S3 that becomes items of a set."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.connection import JsonOption, connected, exit_of, parse_tags
from cli.console import notes
from cli.ending import PARTIAL, USAGE, CommandError, print_json
from cli.progress import bar_of_bytes, follow, say_end
from cli.submission import KeyOption, TagOption, WaitOption
from jobs.ingested import OTHERS, ingested
from lensqueue_client import Client, Job, SetItem

PREFIX: Final = "s3://"
LOOKED_AT: Final = 1_000
"""Of the items that failed, so many are looked at: reasons are few."""
SHOWN: Final = 3
"""Of a reason, so many items are named."""

SetArgument = Annotated[str, typer.Argument(metavar="SET", help="The id of an image set: ims_...")]


def ingest(
    context: typer.Context,
    image_set: SetArgument,
    archive: Annotated[
        str | None,
        typer.Argument(metavar="ARCHIVE", help="A zip, tar or tar.gz file, or a prefix: s3://bucket/folder/"),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV or JSON Lines that name files of the archive, or images that the service has, with"
            " custom_id, true_label, split."
        ),
    ] = None,
    folder_labels: Annotated[
        bool,
        typer.Option(
            "--folder-labels", help="A picture's true label is the name of the folder that it lies in."
        ),
    ] = False,
    tag: TagOption = None,
    wait: WaitOption = False,
    idempotency_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the pictures of an archive added, and print the id of the job that does it.

    With --wait, once it has ended: told are the counts and why some were not added; it ends with 5 then.
    """
    if archive is None and manifest is None:
        raise CommandError("give an archive, a --manifest, or both", USAGE)
    with connected(context) as client:
        if archive is not None and archive.startswith(PREFIX):
            if manifest is not None:
                raise CommandError("a manifest names the files of an archive, not those of S3", USAGE)
            job = client.ingest_prefix(
                image_set,
                archive,
                folder_labels=folder_labels,
                tags=parse_tags(tag),
                idempotency_key=idempotency_key,
            )
        else:
            with bar_of_bytes("Send") as shown:
                task = shown.add_task("", total=None)
                job = client.ingest(
                    image_set,
                    archive,
                    manifest=manifest,
                    folder_labels=folder_labels,
                    tags=parse_tags(tag),
                    on_progress=lambda sent, total: shown.update(task, completed=sent, total=total),
                    idempotency_key=idempotency_key,
                )
        if wait:
            _finish(client, follow(client, job, "Ingest"), image_set, as_json=as_json)
        elif as_json:
            print_json(job.raw)
        else:
            typer.echo(job.id)


def _finish(client: Client, job: Job, image_set: str, *, as_json: bool) -> None:
    told = next(iter(client.results(job)), None)
    counts = {name: (told.raw if told else {}).get(name) or 0 for name in ("added", *OTHERS)}
    failed: list[SetItem] = []
    if told and counts["failed"]:
        version = client.image_set(image_set).last_version
        items = client.set_items(version, failed=True)
        failed = _own(items, told.raw.get("first") or 0, counts["failed"])
    error = told.error if told else None
    if as_json:
        print_json({**job.raw, **counts, "reasons": _reasons(failed)})
    else:
        typer.echo(job.id)
        if job.complete:
            notes.print(f"{ingested(counts)}.", markup=False)
        else:
            say_end(client, job)
        if error is not None:
            notes.print(error.message, markup=False, soft_wrap=True)
        _say_why(failed, counts["failed"])
    raise typer.Exit(exit_of(job) or (PARTIAL if counts["failed"] else 0))


def _own(items: Iterable[SetItem], first: int, count: int) -> list[SetItem]:
    """Of items that failed, those of a job by its first one: before that lie those of others."""
    return list(islice((item for item in items if item.index >= first), min(count, LOOKED_AT)))


def _reasons(failed: list[SetItem]) -> list[dict[str, Any]]:
    """Why items failed, the most frequent reason first, each with the first that it befell."""
    counted = Counter(item.error.code for item in failed if item.error is not None)
    return [
        {
            "code": code,
            "count": count,
            "first": [
                {"index": item.index, "custom_id": item.custom_id, "message": item.error.message}
                for item in islice((each for each in failed if each.error and each.error.code == code), SHOWN)
                if item.error is not None
            ],
        }
        for code, count in counted.most_common()
    ]


def _say_why(failed: list[SetItem], total: int) -> None:
    for reason in _reasons(failed):
        notes.print(f"{reason['count']} x {reason['code']}, first:", markup=False)
        for each in reason["first"]:
            name = "" if each["custom_id"] is None else f" {ascii(each['custom_id'])[1:-1]}"
            notes.print(f"  [{each['index']}]{name}: {each['message']}", markup=False, soft_wrap=True)
    if total > len(failed):
        notes.print(f"These are of the first {len(failed)} of {total}.", markup=False)
