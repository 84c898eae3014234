"""What the dashboard's pages take over a million jobs: time to the first byte, by page.

    .venv/bin/python -m benchmarks.dashboard [--jobs 1000000] [--out benchmarks/results/dashboard.json]

One API process over embedded Postgres, without workers. The jobs are written by SQL, of 20 tenants, all
models and a month, as are other rows that pages list, see `seed`. Then each page is asked for, in turn,
several rounds: by an account that sees all tenants, and by one of a single tenant.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.schemas.ids import job_id, set_id
from benchmarks.bench import Bench, running_bench
from benchmarks.dashboard.seed import ALL, ONE, PASSWORD, seed
from benchmarks.machine import describe_machine

ROUNDS = 15
WARM_UP = 2
TARGET_MS = 300


def main() -> None:
    """Seed, measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    with running_bench() as bench:
        seeded_s = seed(bench.sessions, arguments.jobs)
        bench.start_api(LENSQUEUE_REQUESTS_PER_MINUTE="0", LENSQUEUE_RESULT_TTL_DAYS="3650")
        paths = pages(bench.sessions)
        found = {email: _measure(bench, email, paths) for email in (ALL, ONE)}
    every = [part for parts in found.values() for part in parts.values()]
    report = json.dumps(
        {
            "jobs": arguments.jobs,
            "seeded_s": round(seeded_s, 1),
            "first_byte": found,
            "slowest_p95_ms": max(part["p95_ms"] for part in every),
            "slowest_cold_ms": max(part["cold_ms"] for part in every),
            "target_ms": TARGET_MS,
            "machine": describe_machine(),
        },
        indent=1,
    )
    sys.stdout.write(report + "\n")
    if arguments.out is not None:
        arguments.out.write_text(report + "\n", encoding="utf-8")


def pages(sessions: sessionmaker[Session]) -> dict[str, str]:
    """Every page, by a name: lists from their beginning and their midst, by common and rare filters."""
    with sessions() as session:
        ended = session.execute(
            text("SELECT id FROM jobs WHERE tenant = 'tenant-7' AND state = 'succeeded' LIMIT 1")
        ).scalar_one()
        middle = session.execute(text("SELECT id FROM jobs ORDER BY id OFFSET 1000 LIMIT 1")).scalar_one()
        of_set = session.execute(
            text("SELECT id FROM image_sets WHERE tenant = 'tenant-7' LIMIT 1")
        ).scalar_one()
    return {
        "overview": "/admin/",
        "overview, 30 days": "/admin/?range=30d",
        "series, 24 hours": "/admin/overview/series?range=24h",
        "series, 30 days": "/admin/overview/series?range=30d",
        "jobs": "/admin/jobs",
        "jobs, old": f"/admin/jobs?before={job_id(middle)}",
        "jobs, failed": "/admin/jobs?state=failed",
        "jobs, rare": "/admin/jobs?state=expired&type=embedding",
        "jobs, of a tag": "/admin/jobs?tag=batch%3D77",
        "job": f"/admin/jobs/{job_id(ended)}",
        "new job": "/admin/jobs/new",
        "image sets": "/admin/sets",
        "image set": f"/admin/sets/{set_id(of_set)}",
        "workers": "/admin/workers",
        "queues": "/admin/queues",
        "keys": "/admin/keys",
        "webhooks": "/admin/webhooks",
        "accounts": "/admin/accounts",
        "audit": "/admin/audit",
        "own account": "/admin/account",
    }


def _measure(bench: Bench, email: str, paths: dict[str, str]) -> dict[str, Any]:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{bench.port}", headers={"Sec-Fetch-Site": "same-origin"}, timeout=60
    ) as client:
        signed = client.post("/admin/sign-in", data={"email": email, "password": PASSWORD})
        # over plain HTTP this client would not send back what browsers do on localhost
        client.headers["Cookie"] = signed.headers["Set-Cookie"].partition(";")[0]
        taken: dict[str, list[float]] = {name: [] for name in paths}
        first: dict[str, float] = {}
        for turn in range(WARM_UP + ROUNDS):
            for name, path in paths.items():
                since = time.perf_counter()
                with client.stream("GET", path) as answer:
                    pieces = answer.iter_raw()
                    next(pieces, b"")
                    first_byte_ms = (time.perf_counter() - since) * 1_000
                    # the rest is taken too: the connection is for the next page
                    for _ in pieces:
                        pass
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(f"{path} answered {answer.status_code} to {email}")
                if turn == 0:
                    first[name] = first_byte_ms
                if turn >= WARM_UP:
                    taken[name].append(first_byte_ms)
    return {
        name: {
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(statistics.quantiles(times, n=20)[18], 1),
            # of this process and these tables, nothing was read before
            "cold_ms": round(first[name], 1),
        }
        for name, times in taken.items()
    }


if __name__ == "__main__":
    main()
