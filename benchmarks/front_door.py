"""What the front door costs: one API process over embedded Postgres, without a worker.

    .venv/bin/python -m benchmarks.front_door [--seconds 10] [--out benchmarks/results/front_door.json]

Polls of a job that waits, and submits of one picture of 200 kB: as multipart; as a raw body to
`/v1/images` and a job that names it; in base64 in JSON. From several connections, each sending as soon as
it was answered: requests a second, times, and the API's CPU time a request beside Postgres'. The parts are
taken in turn, several rounds, so that all see the same machine.
"""

import argparse
import base64
import http.client
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import text

from benchmarks.bench import Bench, running_bench
from benchmarks.machine import describe_machine

CLIENTS = 4
ROUNDS = 3
WARM_UP = 30
PICTURE_BYTES = 200_000
LABELS = ["cyan ring", "red heart", "orange square", "black arrow"]
BOUNDARY = "benchmark-boundary"
LENS = {"type": "logit_lens", "labels": LABELS}


class Connection:
    """One client: a connection that is kept, and what it sends with every request."""

    def __init__(self, bench: Bench) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {bench.key}"}

    def ask(self, method: str, path: str, body: bytes | None = None, media_type: str = "") -> dict[str, Any]:
        """The answered object."""
        headers = self._headers | ({"Content-Type": media_type} if body is not None else {})
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        read = answer.read()
        if answer.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {read[:500]!r}")
        found: dict[str, Any] = json.loads(read)
        return found


@dataclass(slots=True)
class Tally:
    """What was measured of one kind of request, over all rounds."""

    times_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_ms: list[dict[str, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Medians over rounds, percentiles over requests."""
        percentiles = statistics.quantiles(self.times_ms, n=100)
        return {
            "requests": len(self.times_ms),
            "per_s": round(len(self.times_ms) / self.seconds, 1),
            "median_ms": round(percentiles[49], 2),
            "p99_ms": round(percentiles[98], 2),
            "cpu_ms": {
                name: round(statistics.median(each[name] for each in self.cpu_ms), 2)
                for name in self.cpu_ms[0]
            },
        }


Step = Callable[[Connection], object]


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part in each round")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    with running_bench() as bench:
        # what is measured is the door, not its limits
        bench.start_api(LENSQUEUE_REQUESTS_PER_MINUTE="0")
        parts = _parts(bench)
        tallies = {name: Tally() for name in parts}
        for _ in range(ROUNDS):
            for name, step in parts.items():
                _measure(bench, step, arguments.seconds, tallies[name])
                _clear(bench)
        found = {name: tally.figures() for name, tally in tallies.items()}
    found["machine"] = {**describe_machine(), "connections": CLIENTS, "picture_bytes": PICTURE_BYTES}
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.write_text(report, encoding="utf-8")


def picture() -> bytes:
    """A JPEG of about PICTURE_BYTES: grain, made coarser until it fits."""
    chance = np.random.default_rng(7)
    grain = Image.fromarray(chance.integers(0, 256, (600, 800, 3), dtype=np.uint8))
    for quality in range(95, 0, -1):
        file = io.BytesIO()
        grain.save(file, "JPEG", quality=quality)
        if file.tell() <= PICTURE_BYTES:
            # comments up to the size: decoders pass over what follows the end
            return file.getvalue().ljust(PICTURE_BYTES, b"\0")
    raise RuntimeError("no quality is coarse enough")


def _parts(bench: Bench) -> dict[str, Step]:
    data = picture()
    count = iter(range(10**9))
    waiting = Connection(bench).ask(
        "POST", "/v1/jobs", _json({"type": "embedding", "input": {"texts": ["a ring"]}}), "application/json"
    )
    path = waiting["links"]["self"]

    def fresh() -> bytes:
        # other bytes each time: a picture that is there already is not written again
        return data[:-8] + next(count).to_bytes(8, "big")

    def multipart(connection: Connection) -> object:
        return connection.ask(
            "POST", "/v1/jobs", _multipart(fresh()), f"multipart/form-data; boundary={BOUNDARY}"
        )

    def raw(connection: Connection) -> object:
        kept = connection.ask("POST", "/v1/images", fresh(), "image/jpeg")
        job = LENS | {"input": {"images": [{"image_id": kept["items"][0]["id"]}]}}
        return connection.ask("POST", "/v1/jobs", _json(job), "application/json")

    def in_json(connection: Connection) -> object:
        job = LENS | {"input": {"images": [{"data": base64.b64encode(fresh()).decode()}]}}
        return connection.ask("POST", "/v1/jobs", _json(job), "application/json")

    return {
        "poll": lambda connection: connection.ask("GET", path),
        "submit_multipart": multipart,
        "submit_raw_then_name": raw,
        "submit_base64": in_json,
    }


def _measure(bench: Bench, step: Step, seconds: float, tally: Tally) -> None:
    def one_client(_: int) -> list[float]:
        connection = Connection(bench)
        for _ in range(WARM_UP // CLIENTS):
            step(connection)
        times_ms = []
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            step(connection)
            times_ms.append((time.perf_counter() - started) * 1000)
        return times_ms

    before, started = bench.cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = [time_ms for times_ms in pool.map(one_client, range(CLIENTS)) for time_ms in times_ms]
    elapsed, after = time.perf_counter() - started, bench.cpu_seconds()
    answered = len(found) + WARM_UP // CLIENTS * CLIENTS
    tally.times_ms += found
    tally.seconds += elapsed * len(found) / answered
    tally.cpu_ms.append({name: 1000 * (after[name] - before[name]) / answered for name in before})


def _clear(bench: Bench) -> None:
    # what was submitted is not measured; the polled job stays
    with bench.sessions.begin() as session:
        session.execute(text("DELETE FROM work WHERE job_id <> (SELECT min(job_id::text)::uuid FROM work)"))
        session.execute(text("DELETE FROM jobs WHERE id <> (SELECT min(id::text)::uuid FROM jobs)"))


def _multipart(data: bytes) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="job"\r\n\r\n{json.dumps(LENS)}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="grain.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


if __name__ == "__main__":
    main()
