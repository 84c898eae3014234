"""Time from submit to result of single pictures, one after the other, against a running service.

    lensqueue up --state DIR          (in another terminal)
    .venv/bin/python benchmarks/latency.py DIR --port 8000

Prints JSON: median, 95th percentile and largest of the wall-clock times in milliseconds, and the machine.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx

PICTURE = Path(__file__).resolve().parents[1] / "demo" / "samples" / "images" / "scene-00000.jpg"
LABELS = ["cyan ring", "red heart", "orange square", "black arrow"]
POLL_SECONDS = 0.005
WARM_UP = 5


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("state", type=Path, help="the state folder of `lensqueue up`: its key is read there")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    key = (arguments.state / "api-key").read_text(encoding="utf-8").strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{arguments.port}", headers={"Authorization": f"Bearer {key}"}
    ) as client:
        times_ms = [measure_ms(client) for _ in range(WARM_UP + arguments.count)][WARM_UP:]
    sys.stdout.write(json.dumps(describe(times_ms), indent=1) + "\n")


def measure_ms(client: httpx.Client) -> float:
    """Submit one picture, poll until it is done, fetch its lens."""
    started = time.perf_counter()
    job = client.post(
        "/v1/jobs",
        data={"job": json.dumps({"type": "logit_lens", "labels": LABELS})},
        files=[("images", ("scene.jpg", PICTURE.read_bytes(), "image/jpeg"))],
    ).json()
    while not client.get(job["links"]["self"]).json()["done"]:
        time.sleep(POLL_SECONDS)
    (item,) = client.get(job["links"]["results"]).json()["items"]
    if item["state"] != "succeeded":
        raise SystemExit(f"the job failed: {item['error']}")
    return (time.perf_counter() - started) * 1000


def describe(times_ms: list[float]) -> dict[str, Any]:
    """The figures and what they were measured on."""
    return {
        "count": len(times_ms),
        "median_ms": round(statistics.median(times_ms), 1),
        "p95_ms": round(statistics.quantiles(times_ms, n=20)[-1], 1),
        "max_ms": round(max(times_ms), 1),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
