"""What it costs to hand out the results of a large job: an API process over HTTP, and its memory meanwhile.

    .venv/bin/python -m benchmarks.results [--items 100000] [--out benchmarks/results/results.json]

For embeddings and lenses in each format: seconds, MB, the growth of the API's resident memory over what it
was before, and how long a poll took meanwhile, at the median and at most. Then the same for the copy that
parts are served from, and for a part of it; and for all events of the job.
"""

import argparse
import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.exports.formats import FORMATS
from api.schemas.ids import job_id
from benchmarks.bench import TENANT, Bench, running_bench
from benchmarks.machine import describe_machine
from engine.catalog import DEMO_MODEL
from models.job import Job
from models.types import JobState, JobType

WIDTH, LAYERS, LABELS = 768, 13, 20
UNIT_ITEMS = 128
KINDS = 50
"""Of items: more than a compressor looks back over."""
SAMPLE_SECONDS = 0.01
POLL_SECONDS = 0.05
MIB = 2**20

RESULTS = text("""
    INSERT INTO results (job_id, index, state, item, payload)
    SELECT :job_id, index, 'succeeded',
           jsonb_build_object('index', index, 'kind', 'image', 'custom_id', index || '.jpg'),
           payload
    FROM generate_series(0, :items - 1) AS index
    JOIN jsonb_array_elements(CAST(:payloads AS jsonb)) WITH ORDINALITY AS made (payload, number)
        ON number = 1 + index % :kinds
""")
INPUTS = text("""
    INSERT INTO job_inputs (job_id, unit, items)
    SELECT :job_id, index / :unit_items, jsonb_agg(jsonb_build_object('index', index) ORDER BY index)
    FROM generate_series(0, :items - 1) AS index GROUP BY 2
""")
EVENTS = text("""
    INSERT INTO job_events (job_id, settled, unit)
    SELECT :job_id, least((unit + 1) * :unit_items, :items), unit
    FROM generate_series(0, (:items - 1) / :unit_items) AS unit
""")


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"items": arguments.items, "width": WIDTH, "layers": LAYERS, "labels": LABELS}
    with running_bench() as bench:
        bench.start_api()
        for type_ in (JobType.EMBEDDING, JobType.LOGIT_LENS):
            job = fill(bench.sessions, TENANT, type_, arguments.items)
            found[type_] = {name: measure(bench, job, f"results?format={name}") for name in FORMATS}
        # of the last job: the copy that is made first, then a part of it as it is
        part = {"Range": f"bytes={MIB}-"}
        found["first_part"] = measure(bench, job, "results?format=npz", part)
        found["part"] = measure(bench, job, "results?format=npz", part)
        found["events"] = measure(bench, job, "events")
        found["machine"] = describe_machine()
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.write_text(report, encoding="utf-8")


def fill(sessions: sessionmaker[Session], tenant: str, type_: JobType, items: int) -> uuid.UUID:
    """An ended job with so many results."""
    with sessions.begin() as session:
        job = Job(
            tenant=tenant,
            type=type_,
            model=DEMO_MODEL,
            options={"labels": labels()},
            total=items,
            succeeded=items,
            state=JobState.SUCCEEDED,
        )
        session.add(job)
        session.flush()
        payloads = json.dumps([payload(type_, kind) for kind in range(KINDS)])
        values = {"job_id": job.id, "items": items, "unit_items": UNIT_ITEMS}
        session.execute(RESULTS, {**values, "kinds": KINDS, "payloads": payloads})
        session.execute(INPUTS, values)
        session.execute(EVENTS, values)
        session.execute(
            text("UPDATE jobs SET started_at = now(), ended_at = now() WHERE id = :job_id"), values
        )
    return job.id


def labels() -> list[str]:
    """Names of the usual length."""
    return [f"a photo of label {number}" for number in range(LABELS)]


def payload(type_: JobType, kind: int) -> dict[str, Any]:
    """What is stored of an item, numbers with as many digits as float32 has."""
    if type_ is JobType.EMBEDDING:
        return {"dimensions": WIDTH, "embedding": _numbers(WIDTH, kind)}
    pooled = {
        "layers": list(range(LAYERS)),
        "labels": labels(),
        "cosine": [_numbers(LABELS, kind)] * LAYERS,
        "rank": [list(range(LABELS))] * LAYERS,
        "final": {"logit": _numbers(LABELS, kind), "match_probability": _numbers(LABELS, kind)},
    }
    top = {"label": labels()[0], "tied": False, "margin": 0.01, "settle_layer": 4}
    return {"width": 640, "height": 480, "pooled": pooled, "top": top | {"label_by_layer": labels()[:LAYERS]}}


def measure(bench: Bench, job: uuid.UUID, what: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Read something of a job to its end, and look at the API meanwhile."""
    pid = bench.stack.pid("api")
    assert pid is not None
    with bench.client() as client, polled(client, job) as polls, watched(pid) as growth_bytes:
        started = time.perf_counter()
        read_bytes = read(client, f"/v1/jobs/{job_id(job)}/{what}", headers)
        seconds = time.perf_counter() - started
        growth = growth_bytes()
    return {
        "seconds": round(seconds, 1),
        "mb": round(read_bytes / 1e6, 1),
        "growth_mib": round(growth / MIB, 1),
        "poll_ms": {"median": round(statistics.median(polls), 1), "max": round(max(polls), 1)},
    }


def read(client: httpx.Client, url: str, headers: dict[str, str] | None = None) -> int:
    """How many bytes came; they are thrown away."""
    while True:
        with client.stream("GET", url, headers=headers) as answer:
            # a part that is not ready yet
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                answer.raise_for_status()
                return sum(len(piece) for piece in answer.iter_bytes())


@contextmanager
def watched(pid: int) -> Iterator[Callable[[], int]]:
    """Look at the resident memory of a process while the block runs: by how many bytes it grew at most."""
    process, stop = psutil.Process(pid), threading.Event()
    before = peak = process.memory_info().rss

    def look() -> None:
        nonlocal peak
        while not stop.wait(SAMPLE_SECONDS):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: peak - before
    finally:
        stop.set()
        thread.join()


@contextmanager
def polled(client: httpx.Client, job: uuid.UUID) -> Iterator[list[float]]:
    """Poll a job while the block runs: how long each poll took, in milliseconds."""
    took_ms: list[float] = []
    stop = threading.Event()

    def poll() -> None:
        while True:
            started = time.perf_counter()
            client.get(f"/v1/jobs/{job_id(job)}").raise_for_status()
            took_ms.append((time.perf_counter() - started) * 1000)
            if stop.wait(POLL_SECONDS):
                return

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield took_ms
    finally:
        stop.set()
        thread.join()


def _numbers(count: int, kind: int) -> list[float]:
    return [round(number, 8) for number in np.random.default_rng(kind).uniform(-0.5, 0.5, count)]


if __name__ == "__main__":
    main()
