"""A summary of a simulated job, and its files alone: each in a process of its own, and what that takes."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import TENANT, Bench
from benchmarks.bulk.simulated import SHAPES, simulate
from jobs.blobs import BlobStore
from jobs.objects import ObjectName
from models.job import Job
from models.session import sync_sessions

SAMPLE_SECONDS: Final = 0.02


def measure_million(bench: Bench, shape: str, counts: list[int]) -> list[dict[str, Any]]:
    """The same for jobs of each size: a summary as an analyst makes it, then its files one by one."""
    blobs = BlobStore(Path(bench.env["LENSQUEUE_BLOBS"]))
    found = []
    for items in counts:
        started = time.perf_counter()
        job = simulate(bench.sessions, blobs, TENANT, SHAPES[shape], items)
        sys.stderr.write(f"{items} items of {shape} made in {time.perf_counter() - started:.0f} s\n")
        parts = {part: _apart(bench, part, job.id) for part in PARTS}
        found.append({"items": items, "shape": shape, **parts})
        sys.stderr.write(json.dumps(found[-1]) + "\n")
    return found


def _apart(bench: Bench, part: str, job_id: uuid.UUID) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.bulk.million", part, str(job_id)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=bench.env)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def make_summary(sessions: Any, blobs: BlobStore, job: Job) -> dict[str, Any]:
    """All that an analyst does until the summary's files can be fetched."""
    from analysis.summarising import summarise  # noqa: PLC0415 - its libraries are part of what it takes

    name = ObjectName(job.tenant, uuid.uuid4(), uuid.uuid4())
    payload = summarise(sessions, blobs, job, name)
    return {"files_mb": {each: round(told["size_bytes"] / 1e6, 1) for each, told in payload["files"].items()}}


def write_exports(sessions: Any, blobs: BlobStore, job: Job) -> dict[str, Any]:
    """Each file of rows, beyond what the arrays take that they are written from."""
    # here, as above: what importing them takes is measured with the rest
    from analysis.sets.exports import write_embeddings, write_errors, write_items, write_layers  # noqa: PLC0415
    from analysis.sets.items import item_columns  # noqa: PLC0415
    from analysis.sets.reading import read_facts  # noqa: PLC0415
    from analysis.sets.summary import study  # noqa: PLC0415

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        facts = read_facts(sessions, blobs, job, scratch)
        studied = study(facts)
        writers: dict[str, Callable[[Path], None]] = {
            "items": lambda path: write_items(path, facts, item_columns(facts, studied)),
            "layers": lambda path: write_layers(path, facts),
            "embeddings": lambda path: write_embeddings(path, facts),
            "errors": lambda path: write_errors(path, facts),
        }
        for name, write in writers.items():
            with measured() as told:
                write(scratch / f"{name}.made")
            found[name] = {**told, "mb": round((scratch / f"{name}.made").stat().st_size / 1e6, 1)}
    return found


PARTS: Final[dict[str, Callable[[Any, BlobStore, Job], dict[str, Any]]]] = {
    "summary": make_summary,
    "exports": write_exports,
}


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Wall and CPU time of the block, and by how much memory of this process grew that is its own.

    Pages of mapped files, which the kernel takes back when it needs them, are counted apart.
    """
    told: dict[str, float] = {}
    stop = threading.Event()
    before = peak = memory_mib()

    def look() -> None:
        nonlocal peak
        while not stop.wait(SAMPLE_SECONDS):
            peak = tuple(map(max, peak, memory_mib()))

    thread = threading.Thread(target=look)
    thread.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield told
    finally:
        stop.set()
        thread.join()
        peak = tuple(map(max, peak, memory_mib()))
        told |= {
            "wall_s": round(time.perf_counter() - wall, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
            "own_mib": round(peak[0], 1),
            "own_growth_mib": round(peak[0] - before[0], 1),
            "mapped_mib": round(peak[1], 1),
        }


def memory_mib(pid: int | str = "self") -> tuple[float, ...]:
    """Resident memory of a process: its own, and that of files."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return tuple(int(told[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))


def main() -> None:
    """Be the process that is measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("job", type=uuid.UUID)
    arguments = parser.parse_args()
    sessions = sync_sessions(os.environ["LENSQUEUE_DATABASE_URL"])
    blobs = BlobStore(Path(os.environ["LENSQUEUE_BLOBS"]))
    with sessions() as session:
        job = session.get_one(Job, arguments.job)
    with measured() as told:
        found = PARTS[arguments.part](sessions, blobs, job)
    sys.stdout.write(json.dumps({**told, **found}))


if __name__ == "__main__":
    main()
