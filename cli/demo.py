"""`lensqueue demo`: the main job on shipped pictures or one's own, through the real service, start to end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import lens_job
from cli.collection import Collection, choose
from cli.console import console, fail
from cli.demo_stack import running_service
from cli.lens_job import refused
from cli.tables import show_layers, show_settling
from cli.up import check_models
from embedded.errors import EmbeddedError
from embedded.folders import claim_state
from engine.catalog import DEMO_MODEL
from lensqueue_client import Client, LensqueueError

CAVEAT = (
    "A lens asks what the model's final head reads at a layer. Low scores early on do not show that the"
    " information is absent there, and no lens is causal evidence."
)


def demo(
    state: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = Path(".lensqueue"),
    model: Annotated[
        str, typer.Option(envvar="LENSQUEUE_DEMO_MODEL", help="Model to look through.")
    ] = DEMO_MODEL,
    images: Annotated[
        Path | None,
        typer.Option(envvar="LENSQUEUE_DEMO_IMAGES", help="Folder of pictures of your own; needs labels."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            envvar="LENSQUEUE_DEMO_LABELS",
            help='What may be in them: "a cat,a dog", or @file with one a line.',
        ),
    ] = None,
) -> None:
    """Bring the service up, run a logit lens over pictures, show and draw it, and stop everything."""
    check_models([model])
    collection = choose(model, images, labels)
    try:
        folder = claim_state(state)
    except EmbeddedError as error:
        fail(str(error))
    # what an earlier run left would be taken for this one's
    shutil.rmtree(folder / "demo", ignore_errors=True)
    with _told(), running_service(folder, model) as client:
        look(client, model, collection, folder / "demo", theirs=images is not None)
    console.print(f"\n{CAVEAT}\n", style="dim", soft_wrap=True)
    console.print(f"Report: {folder / 'demo' / 'report.html'}", soft_wrap=True)
    console.print("Beside it: lens.png, overlays/, results.json", soft_wrap=True)


def look(client: Client, model: str, collection: Collection, target: Path, *, theirs: bool) -> None:
    """Run a lens over the pictures, show it and draw it to files; `theirs` are not those of the project."""
    # here, not above: charts take half a second to import, and an API container does without them
    from cli.demo_files import write_demo  # noqa: PLC0415

    sent = lens_job.upload(client, collection)
    job = lens_job.watch(client, lens_job.submit(client, model, collection, sent))
    if job.fruitless:
        fail(f"none of the pictures has a result: {job.error.message if job.error else job.state}")
    items = lens_job.fetch_items(client, job) + refused(sent)
    _show(items, collection)
    if model == DEMO_MODEL and theirs:
        console.print(
            f"{model} knows coloured shapes and nothing else: try MODEL=google/siglip-base-patch16-224"
        )
    write_demo(client, target, collection, job, items)


@contextmanager
def _told() -> Iterator[None]:
    """What the service refuses is told in a line."""
    try:
        yield
    except LensqueueError as error:
        fail(error.message)


def _show(items: list[dict[str, Any]], collection: Collection) -> None:
    truth = {picture.name: picture.true_labels for picture in collection.pictures}
    if good := [item for item in items if item["state"] == "succeeded"]:
        show_layers(good[0], truth[good[0]["custom_id"]])
    show_settling(items, truth)
