"""Memory of every process while a set of generated scenes is ingested, looked through and summarised.

Proportional set size (PSS: pages that processes share count for each by its share), by what a process does,
when so many items were done; and the page that comes of it, for `benchmarks.bulk.page`.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.bench import Bench
from benchmarks.bulk.driving import open_client, start_service, wait_for
from engine.catalog import DEMO_MODEL
from lensqueue_client import Job, NewItem

MIB: Final = 2**20
EVERY_SECONDS: Final = 1.0
MARKS: Final = (0.25, 0.5, 0.75, 1.0)
LATEST: Final = 5
"""Samples of which the median is told at a mark."""
ITEMS_AT_ONCE: Final = 500


@dataclass(slots=True)
class Watch:
    """What was seen so far: of each sample its phase, how many items were done, and MiB by role."""

    phase: str = ""
    done: int = 0
    samples: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)


def measure_memory(bench: Bench, scenes: int, page: Path | None) -> dict[str, Any]:
    """MiB by phase, role and mark; `page` is where the report is left."""
    with tempfile.TemporaryDirectory() as folder:
        made = ["demo.generate", folder, "--count", str(scenes), "--seed", "5", "--several-every", "0"]
        subprocess.run([sys.executable, "-m", *made], check=True, stdout=subprocess.DEVNULL)
        items = _items(Path(folder))
        start_service(bench, DEMO_MODEL)
        with open_client(bench) as client, watching(bench) as watch:
            image_set = client.create_set("scenes")
            watch.phase = "ingesting"
            for first in range(0, scenes, ITEMS_AT_ONCE):
                client.add_items(image_set, items[first : first + ITEMS_AT_ONCE])
                watch.done = min(scenes, first + ITEMS_AT_ONCE)
                bench.stack.supervisor.watch_once()
            version = client.seal(image_set)
            watch.phase, watch.done = "looking", 0

            def look(job: Job) -> None:
                watch.done = job.progress.succeeded

            labels = sorted({item.true_label for item in items if item.true_label})
            job = client.submit_lens_over(
                version, labels, DEMO_MODEL, priority="bulk", template="a photo of a {}"
            )
            job = wait_for(bench, client, job, look)
            watch.phase, watch.done = "summarising", scenes
            summary = wait_for(bench, client, client.summarise(job))
            watch.phase = ""
            if page is not None:
                client.fetch_file(summary, "report.html", page)
    return {"scenes": scenes, **_figures(watch, scenes)}


@contextmanager
def watching(bench: Bench) -> Iterator[Watch]:
    """Look at all processes every second while the block runs."""
    watch, stop = Watch(), threading.Event()

    def look() -> None:
        while not stop.wait(EVERY_SECONDS):
            watch.samples.append((watch.phase, watch.done, memory_by_role(bench)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def memory_by_role(bench: Bench) -> dict[str, float]:
    """MiB of each role: of the API, of workers' parents, children and decoders, of Postgres, of Valkey."""
    found: dict[str, float] = defaultdict(float)
    for service in bench.stack.supervisor.names:
        pid = bench.stack.pid(service)
        if pid is None:
            continue
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                found[_role(service, parent, process)] += process.memory_full_info().pss / MIB
            except psutil.NoSuchProcess:
                # it ended meanwhile
                continue
    return dict(found)


def _role(service: str, parent: psutil.Process, process: psutil.Process) -> str:
    if service not in {"worker", "analyst"}:
        return service
    if process == parent:
        return f"{service}: parent"
    return f"{service}: {'child' if process.ppid() == parent.pid else 'decoders'}"


def _items(folder: Path) -> list[NewItem]:
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split(",", 3) for line in lines]
    return [NewItem(folder / file, name, label) for name, file, label, _ in rows]


def _figures(watch: Watch, scenes: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for phase in dict.fromkeys(phase for phase, _, _ in watch.samples if phase):
        samples = [(done, found) for each, done, found in watch.samples if each == phase]
        told[phase] = {
            role: {
                **{
                    f"{int(mark * scenes)} done": _latest(samples, role, int(mark * scenes))
                    for mark in MARKS
                    if phase != "summarising"
                },
                "peak": round(max(found.get(role, 0.0) for _, found in samples), 1),
            }
            for role in sorted({role for _, found in samples for role in found})
        }
    return told


def _latest(samples: list[tuple[int, dict[str, float]]], role: str, mark: int) -> float | None:
    before = [found.get(role, 0.0) for done, found in samples if done <= mark][-LATEST:]
    return round(statistics.median(before), 1) if before else None
