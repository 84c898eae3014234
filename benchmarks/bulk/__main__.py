"""What image sets cost: the whole service over many pictures, a million items made up, and the page of a set.

    .venv/bin/python -m benchmarks.bulk throughput|memory|million|page [--out benchmarks/results/bulk.json]

- `throughput`: 500 pictures at the dimensions of base-224 as a job over a set, against the bare engine.
- `memory`: 10,000 generated scenes with the demo checkpoint, from upload to summary: every process. Leaves
  the page.
- `million`: summaries and files of simulated jobs of 100,000 and of 1,000,000 items.
- `page`: the page that `memory` left, or any other, in headless Chromium.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import running_bench
from benchmarks.bulk.memory import measure_memory
from benchmarks.bulk.million import measure_million
from benchmarks.bulk.page import measure_page
from benchmarks.bulk.simulated import SHAPES
from benchmarks.bulk.throughput import measure_throughput
from benchmarks.machine import describe_machine

PARTS: Final = ("throughput", "memory", "million", "page")
PAGE: Final = Path(".lensqueue/benchmark-report.html")


def main() -> None:
    """Measure a part, then print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bulk", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--pictures", type=int, default=500, help="of a round of `throughput`")
    parser.add_argument("--rounds", type=int, default=3, help="of `throughput`, after one that warms up")
    parser.add_argument("--scenes", type=int, default=10_000, help="of `memory`")
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000], help="of `million`")
    parser.add_argument("--shape", choices=SHAPES, default="demo", help="of `million`: whose dimensions")
    parser.add_argument("--page", type=Path, default=PAGE, help="where `memory` leaves the page")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    found = {**_measure(arguments), "machine": describe_machine()}
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report, encoding="utf-8")


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.part == "page":
        return measure_page(arguments.page)
    with running_bench() as bench:
        if arguments.part == "throughput":
            return measure_throughput(bench, arguments.pictures, arguments.rounds)
        if arguments.part == "memory":
            arguments.page.parent.mkdir(parents=True, exist_ok=True)
            return measure_memory(bench, arguments.scenes, arguments.page)
        return {"jobs": measure_million(bench, arguments.shape, arguments.items)}


if __name__ == "__main__":
    main()
