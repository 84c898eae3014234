"""`lensqueue compare` and `lensqueue drift`: two jobs over image sets side by side, fetched and in a line."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.connection import JobArgument, JsonOption, connected
from cli.console import console, notes
from cli.ending import FAILED, CommandError, print_json
from cli.progress import follow
from lensqueue_client import Client, Job

TINY_P: Final = 0.001

OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what is found.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Decides every random draw.")]


def compare(
    context: typer.Context,
    job: JobArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another job over the same version.")],
    out: OutOption = Path("compared"),
    same: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=OURS",
            help="A label of the other job and the one of this that means the same; needed for each where"
            " their names differ.",
        ),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare two lenses over one version of an image set: which is right more often, layer by layer."""
    truth = _parse_same(same)
    with connected(context) as client:
        made = client.compare(job, other, same_truth=truth, seed=seed)
        told = fetch_found(client, made, out)
    if as_json:
        print_json(told)
    elif "difference" not in told:
        console.print("There is no labelled image that both jobs can judge.", soft_wrap=True)
    else:
        console.print(
            f"At the last layers {told['top1']:.1%} are right, of the other job {told['other_top1']:.1%}:"
            f" {100 * told['difference']:+.1f} points ({100 * told['ci_low']:+.1f} to"
            f" {100 * told['ci_high']:+.1f}, n = {told['images']}), McNemar's {_p(told['p'])}",
            soft_wrap=True,
        )


def drift(
    context: typer.Context,
    job: JobArgument,
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="A job of the same model over another version.")
    ],
    out: OutOption = Path("drifted"),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how far the images of one version lie from those of another, as the model of both sees it."""
    with connected(context) as client:
        told = fetch_found(client, client.drift(job, reference, seed=seed), out)
    if as_json:
        print_json(told)
    elif "mmd2" not in told:
        console.print("Drift needs two images in each version at least.", soft_wrap=True)
    else:
        apart = f"; a classifier's AUROC {told['auroc']:.3f}" if told["auroc"] is not None else ""
        mixed = "; the shares of classes changed" if told["class_mix_changed"] else ""
        console.print(
            f"SigLIP-MMD² {told['mmd2']:.5f}, {_p(told['p'])} (by chance 95 % stay below"
            f" {told['null_q95']:.5f}){apart}{mixed}",
            soft_wrap=True,
        )


def _parse_same(given: list[str] | None) -> dict[str, str]:
    named = [each.partition("=") for each in given or ()]
    if not all(theirs and ours for theirs, _, ours in named):
        raise typer.BadParameter("say each as THEIRS=OURS", param_hint="--same")
    return {theirs.strip(): ours.strip() for theirs, _, ours in named}


def fetch_found(client: Client, made: Job, out: Path) -> dict[str, Any]:
    """Wait for the job, fetch its files into a folder, and return the headline of its item."""
    ended = follow(client, made)
    if not ended.complete:
        why = ended.error.message if ended.error else f"it is {ended.state}"
        raise CommandError(f"{ended.id} came to nothing: {why}", FAILED)
    (item,) = client.results(ended)
    out.mkdir(parents=True, exist_ok=True)
    for name in item.raw["files"]:
        client.fetch_file(ended, name, out / name)
    notes.print(f"Written to {out}: {', '.join(item.raw['files'])}.", markup=False, soft_wrap=True)
    return {"job_id": ended.id, **item.raw["headline"]}


def _p(p: float) -> str:
    return f"p < {TINY_P}" if p < TINY_P else f"p = {p:.3f}"
