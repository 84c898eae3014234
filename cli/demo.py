"""`lensqueue demo`: the main job on the shipped pictures, through the real service, start to end."""

import csv
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.console import console, fail
from embedded.errors import EmbeddedError
from embedded.process import Running, Service
from engine.catalog import DEMO_MODEL

SAMPLES = Path(__file__).resolve().parent.parent / "demo" / "samples"
TEMPLATE = "a photo of a {}"  # the wording that the demo checkpoint was trained on
SHOWN_LABELS = 4
START_SECONDS = 180.0
JOB_SECONDS = 300.0
STOP_SECONDS = 60.0

CAVEAT = (
    "A lens asks what the model's final head reads at a layer. Low scores early on do not show that the"
    " information is absent there, and no lens is causal evidence."
)


def demo(
    state: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = Path(".lensqueue"),
) -> None:
    """Bring the service up, run a logit lens over the sample pictures, show it, and stop everything."""
    samples = _read_samples()
    labels = sorted({name for sample in samples for name in sample["objects"]})
    state.mkdir(parents=True, exist_ok=True)
    with _service(state) as client:
        job, items = _run_lens(client, samples, labels)
    target = _write(state / "demo", job, items, samples)
    _show_layers(items[0], samples[0])
    _show_settling(items, samples)
    console.print(f"\n{CAVEAT}\n", style="dim", soft_wrap=True)
    console.print(f"Results: {target}", soft_wrap=True)
    if job["state"] != "succeeded":
        fail(f"the job ended as {job['state']}: {job['error']}")


def _read_samples() -> list[dict[str, Any]]:
    with (SAMPLES / "labels.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "custom_id": row["custom_id"],
                "path": SAMPLES / row["file"],
                "objects": [f"{thing['colour']} {thing['shape']}" for thing in json.loads(row["objects"])],
            }
            for row in csv.DictReader(file)
        ]


@contextmanager
def _service(state: Path) -> Iterator[httpx.Client]:
    """The whole service for as long as the block runs; it ends with us, however we end."""
    port = _free_port()
    log = state / "demo-up.log"
    log.unlink(missing_ok=True)
    service = Service(
        name="lensqueue up",
        argv=[
            *(sys.executable, "-m", "cli", "up"),
            *("--state", str(state), "--port", str(port), "--model", DEMO_MODEL),
        ],
        log=log,
        stop_grace_s=STOP_SECONDS,
    )
    try:
        running = Running(service)
    except (EmbeddedError, OSError) as error:
        fail(str(error))
    try:
        with console.status("Starting Postgres, Valkey, the API and a worker ..."):
            _await_ready(running, port)
        key = (state / "api-key").read_text(encoding="utf-8").strip()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as client:
            yield client
    finally:
        with console.status("Stopping ..."):
            running.stop()


def _await_ready(running: Running, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as probe:
        while time.monotonic() < deadline:
            if running.poll() is not None:
                said = running.last_log_lines().splitlines()[-1:] or ["it said nothing"]
                fail(f"the service did not start: {said[0].removeprefix('lensqueue: ')}")
            try:
                if probe.get("/readyz", params={"worker": True}).is_success:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.2)
    fail(f"the service was not ready within {START_SECONDS:g} s; see {running.service.log}")


def _run_lens(
    client: httpx.Client, samples: list[dict[str, Any]], labels: list[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    wanted = {"type": "logit_lens", "model": DEMO_MODEL, "labels": labels, "options": {"template": TEMPLATE}}
    with ExitStack() as files:
        pictures = [
            ("images", (sample["custom_id"], files.enter_context(sample["path"].open("rb")), "image/jpeg"))
            for sample in samples
        ]
        answer = client.post("/v1/jobs", data={"job": json.dumps(wanted)}, files=pictures)
    job = _json(answer)
    console.print(
        f"Submitted {job['id']}: {len(samples)} pictures, {len(labels)} labels, {DEMO_MODEL}", soft_wrap=True
    )
    return _watch(client, job), _fetch_items(client, job)


def _watch(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    columns = (TextColumn("Logit lens"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + JOB_SECONDS
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("lens", total=job["progress"]["total"])
        while not job["done"]:
            if time.monotonic() > deadline:
                fail(f"the job was not done within {JOB_SECONDS:g} s: {job}")
            time.sleep(0.1)
            job = _json(client.get(job["links"]["self"]))
            progress = job["progress"]
            bar.update(task, completed=progress["succeeded"] + progress["failed"] + progress["dropped"])
    return job


def _fetch_items(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        page = _json(client.get(job["links"]["results"], params={"page_token": token} if token else {}))
        items += page["items"]
        token = page["next_page_token"]
        if token is None:
            return items


def _write(
    folder: Path, job: dict[str, Any], items: list[dict[str, Any]], samples: list[dict[str, Any]]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "results.json"
    truth = {sample["custom_id"]: sample["objects"] for sample in samples}
    target.write_text(
        json.dumps({"job": job, "objects": truth, "items": items}, indent=1) + "\n", encoding="utf-8"
    )
    return target


def _show_layers(item: dict[str, Any], sample: dict[str, Any]) -> None:
    """Layer x label of one picture: the cosines of the labels that are best at the end."""
    pooled = item["pooled"]
    final = pooled["cosine"][-1]
    best = sorted(range(len(final)), key=lambda label: -final[label])[:SHOWN_LABELS]
    table = Table(title=f"{item['custom_id']} (it shows: {', '.join(sample['objects'])}): cosine by layer")
    table.add_column("layer", justify="right")
    table.add_column("on top", no_wrap=True)
    for label in best:
        table.add_column(pooled["labels"][label], justify="right")
    rows = zip(pooled["layers"], item["top"]["label_by_layer"], pooled["cosine"], strict=True)
    for layer, top, scores in rows:
        cells = [
            f"[bold green]{scores[label]:+.3f}[/]"
            if pooled["labels"][label] == top
            else f"{scores[label]:+.3f}"
            for label in best
        ]
        table.add_row(str(layer), top, *cells)
    console.print(table)


def _show_settling(items: list[dict[str, Any]], samples: list[dict[str, Any]]) -> None:
    """Each picture's final label and the layer from which it stays on top."""
    truth = {sample["custom_id"]: sample["objects"] for sample in samples}
    table = Table(title="From which layer the final label stays on top")
    for name, justify in (
        ("picture", "left"),
        ("it shows", "left"),
        ("top label", "left"),
        ("settle layer", "right"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for item in items:
        if item["state"] == "failed":
            table.add_row(item["custom_id"], "", f"[red]{item['error']['code']}[/]", "")
            continue
        top = item["top"]
        right = top["label"] in truth[item["custom_id"]]
        mark = "[green]" if right else "[yellow]"
        table.add_row(
            item["custom_id"],
            ", ".join(truth[item["custom_id"]]),
            f"{mark}{top['label']}[/]",
            str(top["settle_layer"]),
        )
    console.print(table)


def _json(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        fail(
            f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}: {answer.text}"
        )
    body: dict[str, Any] = answer.json()
    return body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
