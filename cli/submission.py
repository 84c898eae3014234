"""`lensqueue submit` and `watch`: from pictures on disk to a job, and on to its end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.collection import read_labels, spread
from cli.connection import JobArgument, JsonOption, connected, exit_of, parse_tags
from cli.console import notes
from cli.ending import INTERRUPTED, REFUSED, USAGE, CommandError, print_json
from cli.progress import follow, say_end
from lensqueue_client import Client, Job

if TYPE_CHECKING:
    from lensqueue_client.submissions import RescoreOptions

TemplateOption = Annotated[str | None, typer.Option(help='Turns a label into a prompt: "a photo of a {}".')]
TagOption = Annotated[list[str] | None, typer.Option(help="key:value, to find it by; repeat for more.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")]
KeyOption = Annotated[str | None, typer.Option(help="Sent again with the same key, it is the same job.")]


def _path(given: str) -> Path:
    # it would be the folder that one stands in
    if not given:
        raise typer.BadParameter("it is empty: name pictures, or folders of them")
    return Path(given)


def submit(
    context: typer.Context,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PICTURES",
            parser=_path,
            help="Picture files, or folders of them; up to 1,000.",
        ),
    ] = None,
    image_set: Annotated[
        str | None,
        typer.Option(
            "--set",
            metavar="SET[:NUMBER]",
            help="In place of pictures, all items of a sealed version: the last of an image set (ims_...),"
            " the one of this number, or the version of this id (isv_...).",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help='What may be in them: "a cat,a dog", or @file with one a line; one that holds a comma in'
            """ double quotes: '"a cat, sitting",a dog'. A lens needs some."""
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The service's default unless given.")] = None,
    kind: Annotated[
        Literal["logit_lens", "embedding"], typer.Option("--type", help="What is computed.")
    ] = "logit_lens",
    outputs: Annotated[
        str | None, typer.Option(help="Of a lens, beside pooled: patch, embeddings, ..., with commas.")
    ] = None,
    template: TemplateOption = None,
    patch_layers: Annotated[
        str | None, typer.Option(help='Layers of what is read of patches: "all", "every:4" or "0,6,12".')
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Take what lies in folders inside of the folders too.")
    ] = False,
    tag: TagOption = None,
    priority: Annotated[
        Literal["interactive", "bulk"] | None, typer.Option(help="By its size unless given.")
    ] = None,
    wait: WaitOption = False,
    idempotency_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a job over pictures, or an image set, and print its id; with --wait, once it has ended."""
    if bool(pictures) == (image_set is not None):
        raise CommandError("give PICTURES, or an image set by --set", USAGE)
    if recursive and image_set is not None:
        raise CommandError("--recursive is for folders of PICTURES", USAGE)
    body: dict[str, Any] = {"type": kind, "model": model, "priority": priority, "tags": parse_tags(tag)}
    options: dict[str, Any] = {"template": template}
    if outputs:
        options["outputs"] = [each.strip() for each in outputs.split(",")]
    if patch_layers:
        options["patch_layers"] = parse_layers(patch_layers)
    body["options"] = {name: value for name, value in options.items() if value is not None}
    if labels is not None:
        body["labels"] = list(read_labels(labels, status=USAGE))
    elif kind == "logit_lens":
        raise typer.BadParameter("a logit lens needs some", param_hint="--labels")
    said = {name: value for name, value in body.items() if value not in (None, {})}
    with connected(context) as client:
        if image_set is not None:
            said["input"] = {"image_set_version": _version(client, image_set)}
        taken = spread(pictures or [], recursive=recursive)
        job = client.submit(said, taken, idempotency_key=idempotency_key)
        _tell(client, job, wait=wait, as_json=as_json)


def rescore(
    context: typer.Context,
    job: JobArgument,
    labels: Annotated[str, typer.Option(help='Other labels: "a cat,a dog", or @file with one a line.')],
    template: TemplateOption = None,
    tag: TagOption = None,
    wait: WaitOption = False,
    idempotency_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score other labels on what a job with the output `embeddings` kept, and print the new job's id."""
    options: RescoreOptions = {"tags": parse_tags(tag)}
    if template is not None:
        options["template"] = template
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    named = read_labels(labels, status=USAGE)
    with connected(context) as client:
        _tell(client, client.rescore(job, named, **options), wait=wait, as_json=as_json)


def watch(context: typer.Context, job: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end; Ctrl-C leaves it running."""
    with connected(context) as client:
        _stay(client, client.job(job), as_json=as_json)


def parse_layers(given: str) -> str | dict[str, int] | list[int]:
    """Layers as the wire wants them."""
    try:
        if given == "all":
            return given
        if given.startswith("every:"):
            return {"every": int(given.removeprefix("every:"))}
        return [int(each) for each in given.split(",")]
    except ValueError:
        raise typer.BadParameter('say "all", "every:4" or "0,6,12"', param_hint="--patch-layers") from None


def _version(client: Client, given: str) -> str:
    """The id of the sealed version that is meant."""
    name, named, number = given.partition(":")
    if name.startswith("isv_"):
        if named:
            raise typer.BadParameter(f"{name} is a version already, without a number", param_hint="--set")
        return name
    if named:
        if not number.isdecimal():
            raise typer.BadParameter(f"{number!r} is no number of a version", param_hint="--set")
        return client.numbered_version(name, int(number)).id
    sealed = [version for version in client.image_set(name).versions or () if version.is_sealed]
    if not sealed:
        raise CommandError(f"{name} has no sealed version (`lensqueue sets seal {name}`)", REFUSED)
    return max(sealed, key=lambda version: version.number).id


def _tell(client: Client, job: Job, *, wait: bool, as_json: bool) -> None:
    if wait:
        _stay(client, job, as_json=as_json)
    elif as_json:
        print_json(job.raw)
    else:
        typer.echo(job.id)
        if job.waiting_for:
            notes.print(f"It waits: {job.waiting_for.message}", markup=False, soft_wrap=True)


def _stay(client: Client, job: Job, *, as_json: bool) -> None:
    try:
        ended = follow(client, job)
    except KeyboardInterrupt:
        notes.print(f"{job.id} goes on without you; see it again with `lensqueue watch {job.id}`,")
        notes.print(f"or end it with `lensqueue cancel {job.id}`.")
        if as_json:
            print_json(client.job(job).raw)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(ended.raw)
    else:
        typer.echo(ended.id)
        say_end(client, ended)
    raise typer.Exit(exit_of(ended))
