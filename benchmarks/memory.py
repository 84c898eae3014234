"""Memory of a lens over many pictures: so400m's width, few layers, pictures made one by one.

    .venv/bin/python -m benchmarks.memory [--few 50] [--many 1000] [--out benchmarks/results/memory.json]

The largest resident memory, from the first picture on, of a process that reads `few` pictures and of one that
reads `many`: scores of the pooled lens over all layers. Loading the checkpoint, which takes more, is not
counted.
"""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import describe_machine
from benchmarks.random_checkpoint import saved, sizes_of
from engine.siglip import SiglipEngine

MODEL = "google/siglip-so400m-patch14-384"
LAYERS = 2
LABELS = ["red circle", "blue star", "green heart", "yellow ring"]


def main() -> None:
    """Measure both in processes of their own, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=50)
    parser.add_argument("--many", type=int, default=1_000)
    parser.add_argument(
        "--read", nargs=2, metavar=("FOLDER", "COUNT"), help="be the process that is measured"
    )
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    if arguments.read is not None:
        read(Path(arguments.read[0]), int(arguments.read[1]))
        return
    with saved(sizes_of(MODEL, LAYERS)) as folder:
        few, many = (peak_mib(folder, count) for count in (arguments.few, arguments.many))
    report = {
        "model": MODEL,
        "layers": LAYERS,
        "pictures": [arguments.few, arguments.many],
        "peak_mib": [few, many],
        "ratio": round(many / few, 3),
        "machine": describe_machine(),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def peak_mib(folder: Path, count: int) -> float:
    """The largest resident memory of a process that reads so many pictures."""
    argv = [sys.executable, "-m", "benchmarks.memory", "--read", str(folder), str(count)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[-1])


def read(folder: Path, count: int) -> None:
    """Read the pictures, print the largest resident memory in MiB."""
    engine = SiglipEngine(folder, device="cpu")
    gc.collect()
    # what stood highest until now is forgotten: Linux, proc(5)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    engine.lens(pictures(count, engine.config.img_size), LABELS, batch_size=8)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    sys.stdout.write(f"{int(kibibytes) / 1024:.1f}\n")


def pictures(count: int, side: int) -> Iterator[torch.Tensor]:
    """Noise, made when it is due."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        yield torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)


if __name__ == "__main__":
    main()
