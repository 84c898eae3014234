"""Commands about the service: its models, workers and queues."""

from typing import Annotated

import typer
from rich.markup import escape

from cli.connection import JsonOption, connected
from cli.console import notes
from cli.ending import print_json
from cli.listing import print_rows

workers = typer.Typer(help="Who is there, and what each has loaded.", invoke_without_command=True)
queues = typer.Typer(help="What waits for each model.", invoke_without_command=True)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The name of a model.")]


def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the models that jobs may name."""
    with connected(context) as client:
        found = client.models()
    if as_json:
        print_json({"items": [model.raw for model in found]})
        return
    rows = []
    for model in found:
        sizes = model.dimensions
        shown = [str(sizes.layers), str(sizes.image_size), str(sizes.patch_tokens)] if sizes else ["", "", ""]
        note = model.error.message if model.error else "default" if model.default else ""
        waiting = str(model.queue.waiting_items or "")
        rows.append((escape(model.name), str(model.workers_online or ""), *shown, waiting, escape(note)))
    print_rows(("model", "workers", "layers", "pixels", "patches", "waiting", ""), rows)


@workers.callback()
def list_workers(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the workers of the last day."""
    if context.invoked_subcommand:
        return
    with connected(context) as client:
        found = client.workers()
    if as_json:
        print_json({"items": [worker.raw for worker in found]})
        return
    rows = []
    for worker in found:
        rate = "" if worker.gflop_per_s is None else f"{worker.gflop_per_s:.0f}"
        named = (worker.id, escape(worker.hostname), escape(worker.model), worker.state)
        error = escape(worker.error.message) if worker.error else ""
        rows.append((*named, worker.device or "", rate, error))
    print_rows(("worker", "host", "model", "state", "device", "GFLOP/s", ""), rows)


@workers.command()
def drain(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The id of a worker: wrk_...")],
    as_json: JsonOption = False,
) -> None:
    """Let a worker finish what it holds and claim no more (a key with the scope admin)."""
    with connected(context) as client:
        told = client.drain_worker(worker)
    _done(told.raw, f"{worker} finishes what it holds.", as_json=as_json)


@queues.callback()
def list_queues(context: typer.Context, as_json: JsonOption = False) -> None:
    """List what waits for each model, and since when."""
    if context.invoked_subcommand:
        return
    with connected(context) as client:
        found = client.queues()
    if as_json:
        print_json({"items": [queue.raw for queue in found]})
        return
    rows = []
    for queue in found:
        oldest = "" if queue.oldest_s is None else f"{queue.oldest_s:.0f} s"
        numbers = (str(queue.waiting_items), str(queue.running_items))
        rows.append((escape(queue.model), *numbers, oldest, "paused" if queue.paused_at else ""))
    print_rows(("model", "waiting", "running", "oldest", ""), rows)


@queues.command()
def pause(context: typer.Context, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Let no worker claim jobs of a model (a key with the scope admin)."""
    with connected(context) as client:
        told = client.pause_queue(model)
    _done(told.raw, f"{model} is paused.", as_json=as_json)


@queues.command()
def resume(context: typer.Context, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Let workers claim jobs of a model again (a key with the scope admin)."""
    with connected(context) as client:
        told = client.resume_queue(model)
    _done(told.raw, f"{model} goes on.", as_json=as_json)


def _done(told: object, message: str, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        notes.print(message, markup=False)
