"""`lensqueue analyze`: from a folder of pictures to a report, Parquet files and heatmaps, in one command."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from cli.analysis_progress import Progress, forget_lost
from cli.collection import read_labels
from cli.console import console, fail
from cli.demo_stack import running_service
from cli.ending import PARTIAL, USAGE
from cli.lens_job import watch
from cli.progress import bar
from cli.truth import read_items
from cli.up import check_models
from embedded.errors import EmbeddedError
from embedded.folders import claim_state
from engine.catalog import DEMO_MODEL
from jobs.members import plain
from lensqueue_client import Client, Job, LensqueueError, NewItem
from lensqueue_client.errors import counted
from lensqueue_client.items import item_of

if TYPE_CHECKING:
    from lensqueue_client.submissions import LensOptions

PICTURES_AT_ONCE: Final = 100
HEATMAPS: Final = 12
OUTLYING: Final = 1.5
"""From this score on an image is an outlier to the report."""
OUTLIERS: Final = 2
REPORT: Final = "report.html"
HEATMAP_FOLDER: Final = "heatmaps"
SOMETIMES: Final = ("label_maps.parquet",)
"""Files that not every summary has."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be analysed: its pictures, in their order, and the labels that compete in them."""

    name: str
    items: list[NewItem]
    labels: tuple[str, ...]
    template: str | None


def analyze(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, also in folders inside it.")],
    labels: Annotated[
        str | None,
        typer.Option(
            help='What may be in them: "a cat,a dog", or @file with one a line; by default the true labels.'
        ),
    ] = None,
    truth: Annotated[
        str,
        typer.Option(
            help="Where true labels come from: `folders`, of the names of the folders that pictures lie in;"
            " a CSV file with the columns `file` and `label`; or `none`."
        ),
    ] = "folders",
    model: Annotated[str, typer.Option(help="Model to look through.")] = DEMO_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is found.")] = Path("found"),
    template: Annotated[str | None, typer.Option(help="Wording around a label: 'a photo of a {}'.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides every random draw.")] = 0,
    state: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = Path(".lensqueue"),
) -> None:
    """Say what a model sees in a folder of pictures, layer by layer: report, Parquet files and heatmaps.

    Runs the whole service meanwhile. Stopped, and run again with the same arguments, it goes on where it was.
    """
    check_models([model])
    # what an earlier analysis drew is no picture of this one
    wanted = _choose(folder, labels, truth, template, (out, out / HEATMAP_FOLDER, state))
    try:
        kept = claim_state(state)
    except EmbeddedError as error:
        fail(str(error))
    try:
        with running_service(kept, model) as client:
            failed = run(client, wanted, _progress(out, wanted, model, seed))
    except LensqueueError as error:
        fail(error.message)
    console.print(f"Report: {out / REPORT}", soft_wrap=True)
    console.print(
        f"Beside it: summary.json, {HEATMAP_FOLDER}/, and items, layers and embeddings as Parquet",
        soft_wrap=True,
    )
    if failed:
        raise typer.Exit(PARTIAL)


def run(client: Client, wanted: Wanted, progress: Progress) -> int:
    """Analyse the pictures with a running service, from where it was left; returns how many failed."""
    out, model = progress.out, progress.model
    forget_lost(progress, client)
    version = progress.once("version", lambda: _make_version(client, wanted, progress))
    job = client.job(progress.once("job", lambda: _submit(client, wanted, version, model)))
    job = watch(client, job)
    if job.fruitless:
        # whoever runs it again wants more than to hear the same
        progress.forget("job")
        fail(f"none of the pictures has a result: {job.error.message if job.error else job.state}")
    summary_id = progress.once("summary", lambda: client.summarise(job, progress.seed).id)
    summary = watch(client, client.job(summary_id))
    if summary.state != "succeeded":
        progress.forget("summary")
        fail(f"the summary failed: {summary.error.message if summary.error else summary.state}")
    (item,) = client.results(summary)
    for name in item.raw["files"]:
        client.fetch_file(summary, name, out / name)
    _drop_stale(out, item.raw["files"])
    told = orjson.loads((out / "summary.json").read_bytes())
    _draw_heatmaps(client, wanted, model, job, told, out / HEATMAP_FOLDER)
    _say(told)
    return int(told["counts"]["failed"])


def _progress(out: Path, wanted: Wanted, model: str, seed: int) -> Progress:
    pictures = [[*_content(item), item.custom_id, item.true_label] for item in wanted.items]
    said = [wanted.name, pictures, [*wanted.labels, wanted.template, model, seed]]
    progress = Progress.of(out, model, seed, said)
    if progress.replaces:
        console.print(
            f"{out} was made of other pictures or with other options: what lies there is replaced",
            soft_wrap=True,
        )
    return progress


def _content(item: NewItem) -> tuple[str, int, int]:
    """What tells a picture from another one in its place: to read them all would take too long."""
    path = Path(str(item.picture))
    told = path.stat()
    # its bytes: a path need be no text
    return os.fsencode(path).hex(), told.st_size, told.st_mtime_ns


def _submit(client: Client, wanted: Wanted, version: str, model: str) -> str:
    options: LensOptions = {"priority": "bulk"}
    if wanted.template is not None:
        options["template"] = wanted.template
    job = client.submit_lens_over(version, wanted.labels, model, **options)
    pictures, labels = counted(len(wanted.items), "picture"), counted(len(wanted.labels), "label")
    console.print(f"Submitted {job.id}: {pictures}, {labels}, {model}", soft_wrap=True)
    return job.id


def _choose(
    folder: Path, labels: str | None, truth: str, template: str | None, ours: Sequence[Path]
) -> Wanted:
    if not folder.is_dir():
        fail(f"{folder} is not a folder", USAGE)
    items = read_items(folder, truth, ours)
    if not items:
        fail(f"{folder} holds no pictures", USAGE)
    known = dict.fromkeys(item.true_label for item in items if item.true_label)
    if labels is None and not known:
        fail('say what may be in the pictures: --labels "a cat,a dog", or --labels @file', USAGE)
    names = tuple(sorted(known)) if labels is None else read_labels(labels, USAGE)
    return Wanted(plain(folder.resolve().name), items, names, template)


def _make_version(client: Client, wanted: Wanted, progress: Progress) -> str:
    set_id = progress.once("set", lambda: client.create_set(wanted.name).id)
    # they are added in their order: what is there are the first ones
    there = client.image_set(set_id).last_version.items
    with bar("Uploading") as shown:
        task = shown.add_task("", total=len(wanted.items), completed=there)
        for first in range(there, len(wanted.items), PICTURES_AT_ONCE):
            some = wanted.items[first : first + PICTURES_AT_ONCE]
            client.add_items(set_id, some)
            shown.advance(task, len(some))
    return client.seal(set_id).id


def _drop_stale(out: Path, files: Collection[str]) -> None:
    """Remove what an earlier analysis left that this one has no file for."""
    for name in SOMETIMES:
        if name not in files:
            (out / name).unlink(missing_ok=True)


def _draw_heatmaps(
    client: Client, wanted: Wanted, model: str, job: Job, told: dict[str, Any], folder: Path
) -> None:
    """Overlays of the pictures that are worth a look."""
    shutil.rmtree(folder, ignore_errors=True)
    chosen = _worth_a_look(told)[:HEATMAPS]
    seen = {index: client.item(job, index).raw for index in chosen}
    images = [(str(index), seen[index]["image_id"]) for index in chosen]
    if not images:
        return
    folder.mkdir(parents=True)
    options: LensOptions = {"outputs": ["pooled", "patch"]}
    if wanted.template is not None:
        options["template"] = wanted.template
    maps = watch(client, client.submit_lens(images, wanted.labels, model, **options))
    for item in client.results(maps):
        if item.state == "succeeded":
            place = int(item.raw["custom_id"])
            (folder / f"item-{place}.png").write_bytes(client.overlay(item_of(item.raw)))


def _worth_a_look(told: dict[str, Any]) -> list[int]:
    """Suspected label errors, late flips and the first outliers, in turn."""
    candidates = (told["label_candidates"] or {}).get("items", [])
    late = (told["settle"] or {}).get("late", [])
    far = [item for item in (told["outliers"] or {}).get("items", []) if item["score"] > OUTLYING]
    turns = zip_longest(candidates, late, far[:OUTLIERS])
    return list(dict.fromkeys(item["index"] for turn in turns for item in turn if item is not None))


def _say(told: dict[str, Any]) -> None:
    counts, last = told["counts"], told["layers"][-1]
    console.print(f"{counts['succeeded']} of {counts['total']} pictures have results", soft_wrap=True)
    if last["top1"] is not None:
        console.print(
            f"Accuracy at layer {last['layer']}: {last['top1']:.1%}"
            f" ({last['ci_low']:.1%} to {last['ci_high']:.1%}, n = {last['n']})",
            soft_wrap=True,
        )
