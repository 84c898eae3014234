"""What the queue costs: the real API, ledger, broker and worker around an engine that sleeps.

    .venv/bin/python -m benchmarks.queue [--items 1000000] [--only PART] [--out benchmarks/results/queue.json]

1. Single-item jobs, through the ledger and by one Celery task an item with its own claim, in turn: items a
   second to drain, engine at 0 ms.
2. Single-item jobs from 8 clients over HTTP, submit to end, engine at 0 and at 30 ms a batch; CPU per item.
3. One large job: time to accept it, to drain it, and the worker's memory meanwhile.
4. Interactive jobs while a large one of texts, or pictures, runs at 30 ms a batch: submit to end, in batches.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from api.schemas.ids import parse_image_id
from api.waiting import TICK_SECONDS
from benchmarks.bench import ROOT, TENANT, Bench, celery_argv, running_bench
from benchmarks.machine import describe_machine
from benchmarks.one_task_per_item import QUEUE, run_item
from engine.catalog import DEMO_MODEL, Catalog
from jobs import submit
from jobs.admission import Quota, admit
from jobs.broker import PRODUCER_TRANSPORT, celery_app
from jobs.submission import ImageItem, Item, Submission, TextItem
from models.types import JobType, Priority

PAIRS = 5
PICTURE = ROOT / "demo" / "samples" / "images" / "scene-00000.jpg"
BATCH_MS = 30.0
CLIENTS = 8
INTERACTIVE_JOBS = 500
PARTS = ("drain", "over_http", "large", "interactive")


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000, help="of the large job")
    parser.add_argument("--singles", type=int, default=2_000, help="single-item jobs of a round")
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    with running_bench() as bench:
        bench.start_api()
        found: dict[str, Any] = {}
        for part in PARTS if arguments.only is None else (arguments.only,):
            found[part] = _measure(part, bench, arguments.items, arguments.singles)
        found["machine"] = describe_machine()
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report, encoding="utf-8")


def _measure(part: str, bench: Bench, items: int, singles: int) -> Any:
    if part == "drain":
        return measure_drain(bench, singles)
    if part == "over_http":
        return [measure_http(bench, singles, sleep_ms) for sleep_ms in (0.0, BATCH_MS)]
    if part == "large":
        return measure_large(bench, items)
    return [measure_interactive(bench, items // 8, kind) for kind in ("text", "image")]


def measure_drain(bench: Bench, count: int) -> dict[str, Any]:
    """Items a second of both ways, taken in turn so that both see the same machine."""
    ledger, tasks = [], []
    for _ in range(PAIRS):
        ledger.append(_through_the_ledger(bench, count))
        tasks.append(_one_task_per_item(bench, count))
        _say(f"drain: ledger {ledger[-1].rate:.0f} items/s, one task an item {tasks[-1].rate:.0f} items/s")
    ratios = [mine.rate / theirs.rate for mine, theirs in zip(ledger, tasks, strict=True)]
    return {
        "items": count,
        "pairs": PAIRS,
        "ledger": _median_of(ledger),
        "one_task_per_item": _median_of(tasks),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def measure_http(bench: Bench, count: int, sleep_ms: float) -> dict[str, Any]:
    """Single-item jobs from several clients: jobs a second from the first submit to the last end."""
    bench.start_worker(sleep_ms=sleep_ms)
    before = bench.cpu_seconds()
    started = time.perf_counter()
    with bench.client() as client, ThreadPoolExecutor(CLIENTS) as pool:

        def send(number: int) -> None:
            body = {"type": "embedding", "input": {"texts": [f"text {number}"]}}
            client.post("/v1/jobs", json=body).raise_for_status()

        list(pool.map(send, range(count)))
    bench.wait_until(lambda: _waiting(bench) == 0)
    elapsed = time.perf_counter() - started
    after = bench.cpu_seconds()
    bench.stop("worker")
    _say(f"over HTTP, {sleep_ms:g} ms a batch: {count / elapsed:.0f} jobs/s")
    return {
        "jobs": count,
        "clients": CLIENTS,
        "batch_ms": sleep_ms,
        "jobs_per_s": round(count / elapsed, 1),
        "cpu_ms_per_item": {name: round(1000 * (after[name] - before[name]) / count, 3) for name in before},
    }


def measure_large(bench: Bench, count: int) -> dict[str, Any]:
    """A job of a million items: accepted, drained, and the worker's memory at the start and at the end."""
    texts = _texts(count)
    started = time.perf_counter()
    _submit_items(bench, texts, Priority.BULK)
    accept_s = time.perf_counter() - started
    del texts
    _say(f"large: {count} items accepted in {accept_s:.1f} s")
    bench.start_worker(sleep_ms=0)
    started = time.perf_counter()
    memory: list[float] = []

    def done() -> bool:
        memory.append(bench.resident_mib("worker"))
        return _waiting(bench) == 0

    bench.wait_until(done, seconds=3_600, every=0.5)
    drain_s = time.perf_counter() - started
    bench.stop("worker")
    settled = memory[len(memory) // 4 :]
    _say(f"large: drained in {drain_s:.0f} s")
    return {
        "items": count,
        "accept_s": round(accept_s, 2),
        "drain_s": round(drain_s, 1),
        "items_per_s": round(count / drain_s, 1),
        "worker_mib_first_quarter": round(statistics.median(memory[: max(1, len(memory) // 4)]), 1),
        "worker_mib_last_quarter": round(statistics.median(settled[-max(1, len(settled) // 3) :]), 1),
    }


def measure_interactive(bench: Bench, count: int, kind: str) -> dict[str, Any]:
    """Single jobs while a large one of the same kind runs, one after the other: from submit to the end."""
    body: dict[str, Any] = {"type": "embedding", "input": {"texts": ["a ring"]}}
    times_ms = []
    with bench.client() as client:
        if kind == "image":
            with PICTURE.open("rb") as picture:
                kept = client.post("/v1/images", files={"images": picture}).raise_for_status().json()
            image_id = kept["items"][0]["id"]
            body["input"] = {"images": [{"image_id": image_id}]}
            _submit_items(bench, [ImageItem(parse_image_id(image_id))] * count, Priority.BULK)
        else:
            _submit(bench, count, Priority.BULK)
        bench.start_worker(sleep_ms=BATCH_MS)
        for _ in range(INTERACTIVE_JOBS):
            started = time.perf_counter()
            job = client.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}).raise_for_status().json()
            if not job["done"]:
                raise TimeoutError("an interactive job waited for more than 30 s")
            times_ms.append((time.perf_counter() - started) * 1000)
    with bench.sessions.begin() as session:
        # what is left of the large job is not measured
        session.execute(text("TRUNCATE jobs CASCADE"))
    bench.stop("worker")
    percentiles = statistics.quantiles(times_ms, n=100)
    _say(f"interactive {kind} under load: median {percentiles[49]:.0f} ms, p99 {percentiles[98]:.0f} ms")
    return {
        "kind": kind,
        "jobs": len(times_ms),
        "batch_ms": BATCH_MS,
        "median_ms": round(percentiles[49], 1),
        "p99_ms": round(percentiles[98], 1),
        "max_ms": round(max(times_ms), 1),
        "poll_ms": round(TICK_SECONDS * 1000, 1),
        "p99_batches_beyond_poll": round((percentiles[98] - TICK_SECONDS * 1000) / BATCH_MS, 2),
    }


@dataclass(frozen=True, slots=True)
class Drain:
    """Items a second, and the CPU time of each service in ms an item."""

    rate: float
    cpu_ms: dict[str, float]


def _median_of(drains: list[Drain]) -> dict[str, Any]:
    return {
        "items_per_s": round(statistics.median(drain.rate for drain in drains), 1),
        "cpu_ms_per_item": {
            name: round(statistics.median(drain.cpu_ms[name] for drain in drains), 3)
            for name in drains[0].cpu_ms
        },
    }


def _through_the_ledger(bench: Bench, count: int) -> Drain:
    _submit_singles(bench, count)
    bench.start_worker(sleep_ms=0)
    return _time_drain(bench, "worker")


def _one_task_per_item(bench: Bench, count: int) -> Drain:
    _submit_singles(bench, count)
    producer = celery_app(bench.env["LENSQUEUE_BROKER_URL"], PRODUCER_TRANSPORT)
    for _ in range(count):
        producer.send_task(run_item.name, queue=QUEUE, ignore_result=True)
    bench.start("tasks", celery_argv("benchmarks.one_task_per_item"), LENSQUEUE_MODEL=DEMO_MODEL)
    return _time_drain(bench, "tasks")


def _time_drain(bench: Bench, name: str) -> Drain:
    """From the first completed item to the last: without the start of the processes."""
    total = _waiting(bench)
    bench.wait_until(lambda: _waiting(bench) < total, every=0.002)
    before, started, left = bench.cpu_seconds(), time.perf_counter(), _waiting(bench)
    bench.wait_until(lambda: _waiting(bench) == 0, every=0.005)
    elapsed, after = time.perf_counter() - started, bench.cpu_seconds()
    bench.stop(name)
    cpu_ms = {each: 1000 * (after[each] - before[each]) / left for each in (name, "postgres", "valkey")}
    return Drain(left / elapsed, cpu_ms)


def _submit_singles(bench: Bench, count: int) -> None:
    for number in range(count):
        _submit(bench, 1, Priority.INTERACTIVE, first=number)


def _submit(bench: Bench, count: int, priority: Priority, first: int = 0) -> None:
    _submit_items(bench, _texts(count, first), priority)


def _texts(count: int, first: int = 0) -> list[Item]:
    return [TextItem(f"text {first + index}") for index in range(count)]


def _submit_items(bench: Bench, items: Sequence[Item], priority: Priority) -> None:
    wanted = Submission(JobType.EMBEDDING, DEMO_MODEL, items, {"normalize": True}, priority=priority)
    with bench.sessions.begin() as session:
        admission = admit(session, TENANT, wanted, Catalog(), Quota())
    with bench.sessions.begin() as session:
        submit.submit(session, TENANT, wanted, admission)


def _waiting(bench: Bench) -> int:
    with bench.sessions() as session:
        return int(session.scalar(text("SELECT count(*) FROM work")) or 0)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
