"""A job over a set against the bare engine with decoding: the same pictures, in turn, on the same machine.

The checkpoint has the dimensions of base-224 and random weights; the pictures are JPEGs of 640 x 480, as a
camera would save them. Each round has bytes of its own, so that nothing is known from the round before. The
bare engine reads the pooled lens of all layers, in batches as large as a worker's, and decodes the next
pictures meanwhile with a worker's pool; it stores nothing. The service's time is that from the job's first
claim to its end.
"""

import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
import torch

from benchmarks.bench import Bench
from benchmarks.bulk.driving import fill_set, open_client, seconds_of, start_service, wait_for
from benchmarks.random_checkpoint import saved, sizes_of
from jobs.admission import MAX_UNIT_ITEMS
from lensqueue_client import Client, NewItem
from tests.scenery import scenery
from worker.decoding_process import Picture
from worker.engines import make_engine
from worker.feeding import Pending
from worker.runtime import open_decoders
from worker.settings import WorkerSettings

MODEL: Final = "google/siglip-base-patch16-224"
SIZE: Final = (640, 480)
QUALITY: Final = 88
NOISE: Final = 8.0
KINDS: Final = 50
"""Pictures that are drawn; others are their bytes with a number behind them, which decoders pass over."""
LABELS: Final = [
    f"{colour} {shape}"
    for colour in ("red", "blue", "green", "yellow", "pink")
    for shape in ("circle", "star", "heart", "ring")
]
WARM_UP: Final = 64

Round = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a round took: the time on the wall, and CPU time of all processes, which a busy machine spares."""

    seconds: float
    cpu_seconds: float


def measure_throughput(bench: Bench, pictures: int, rounds: int) -> dict[str, Any]:
    """Pictures a second of both, round by round, the medians, and the ratio of each round."""
    drawn = [_draw(seed) for seed in range(min(KINDS, pictures))]
    service: list[Taken] = []
    bare: list[Taken] = []
    with saved(sizes_of(MODEL)) as folder, TemporaryDirectory() as scratch:
        env = {"LENSQUEUE_MODEL_PATHS": json.dumps({MODEL: str(folder)})}
        start_service(bench, MODEL, **env)
        run_bare, close = _open_bare(bench, env)
        try:
            with open_client(bench) as client:
                for number in range(rounds + 1):
                    # the first round warms both up
                    count = pictures if number else min(pictures, WARM_UP)
                    made = [_numbered(drawn, number, place) for place in range(count)]
                    service.append(_run_service(bench, client, made, Path(scratch), number))
                    bare.append(run_bare(made))
        finally:
            close()
    ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(service[1:], bare[1:], strict=True)]
    cpu = [theirs.cpu_seconds / ours.cpu_seconds for ours, theirs in zip(service[1:], bare[1:], strict=True)]
    return {
        "model": MODEL,
        "weights": "random",
        "pictures": pictures,
        "picture_bytes": round(statistics.mean(map(len, drawn))),
        "picture_size": list(SIZE),
        "labels": len(LABELS),
        "rounds": rounds,
        "service": _told(service[1:], pictures),
        "bare": _told(bare[1:], pictures),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ratio_median": round(statistics.median(cpu), 3),
    }


def _told(taken: Sequence[Taken], pictures: int) -> dict[str, Any]:
    rates = [pictures / each.seconds for each in taken]
    return {
        "per_s_median": round(statistics.median(rates), 2),
        "per_s": [round(rate, 2) for rate in rates],
        "cpu_ms_a_picture": round(1000 * statistics.median(each.cpu_seconds for each in taken) / pictures, 1),
    }


def _draw(seed: int) -> bytes:
    file = io.BytesIO()
    scenery(SIZE, seed=seed, noise=NOISE).save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def _numbered(drawn: Sequence[bytes], number: int, place: int) -> tuple[str, bytes]:
    return f"{number}-{place:05}.jpg", drawn[place % len(drawn)] + number.to_bytes(4) + place.to_bytes(4)


def _run_service(bench: Bench, client: Client, made: Round, scratch: Path, number: int) -> Taken:
    items = []
    for name, data in made:
        (scratch / name).write_bytes(data)
        items.append(NewItem(scratch / name))
    version = fill_set(client, f"round {number}", items)
    before = sum(bench.cpu_seconds().values())
    job = client.submit_lens_over(version, LABELS, MODEL, priority="bulk")
    seconds = seconds_of(wait_for(bench, client, job))
    return Taken(seconds, sum(bench.cpu_seconds().values()) - before)


def _open_bare(bench: Bench, env: dict[str, str]) -> tuple[Callable[[Round], Taken], Callable[[], None]]:
    """What runs the bare engine over pictures and tells how long that took, and what ends its decoders."""
    settings = WorkerSettings(
        database_url=bench.env["LENSQUEUE_DATABASE_URL"],
        model=MODEL,
        device="cpu",
        model_paths={name: Path(path) for name, path in json.loads(env["LENSQUEUE_MODEL_PATHS"]).items()},
    )
    engine = make_engine(settings)
    directions = engine.embed_labels(LABELS)
    pool = open_decoders(settings, engine.provenance["pixel_path"])

    def begin(part: Round) -> Pending:
        return pool.submit([partial(bytes, data) for _, data in part])

    def cpu_seconds() -> float:
        times = [psutil.Process(pid).cpu_times() for pid in pool.pids()]
        return time.process_time() + sum(each.user + each.system for each in times)

    def run(made: Round) -> Taken:
        started, before = time.perf_counter(), cpu_seconds()
        parts = [made[first : first + MAX_UNIT_ITEMS] for first in range(0, len(made), MAX_UNIT_ITEMS)]
        ahead = begin(parts[0])
        for part in [*parts[1:], ()]:
            # the next ones are decoded meanwhile, as a worker does
            decoded, ahead = ahead, begin(part)
            pixels = [
                torch.from_numpy(found.pixels) for found in decoded.result() if isinstance(found, Picture)
            ]
            engine.lens(pixels, directions, batch_size=settings.batch_items)
        return Taken(time.perf_counter() - started, cpu_seconds() - before)

    return run, pool.close
