"""What each output of the lens costs beside the bare pass, on one core: so400m-patch14-384, one picture.

    .venv/bin/python -m benchmarks.lens [--dtype bfloat16] [--pairs 15] [--layers N] [--out FILE]

CPU time; the bare pass and each lens in turn, round after round. Token outputs are read at every layer, the
patch lens by value; by the whole head at the last layer, as by default.
"""

# ruff: noqa: E402 - one core, before torch starts its threads
from benchmarks.pairs import PAIRS, ratio_of, use_one_core

use_one_core()

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine
from benchmarks.random_checkpoint import saved, sizes_of
from engine.siglip import SiglipEngine

MODEL = "google/siglip-so400m-patch14-384"
LABELS = ["red circle", "blue star", "green heart", "yellow ring"]
OUTPUTS: dict[str, dict[str, Any]] = {
    "pooled": {"outputs": ("pooled",)},
    "pooled + patch value, all layers": {
        "outputs": ("patch",),
        "patch_layers": "all",
        "patch_method": "value",
    },
    "pooled + patch head, last layer": {"outputs": ("patch",)},
    "pooled + probe_attention, all layers": {"outputs": ("probe_attention",), "patch_layers": "all"},
    "pooled + contribution, all layers": {"outputs": ("contribution",), "patch_layers": "all"},
    "pooled + token_norms, all layers": {"outputs": ("token_norms",), "patch_layers": "all"},
    "pooled + embeddings": {"outputs": ("embeddings",)},
}


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--layers", type=int, help="fewer than the checkpoint has, for a quick look")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = sizes_of(MODEL, arguments.layers)
    with saved(sizes) as folder:
        engine = SiglipEngine(folder, device="cpu", dtype=arguments.dtype)
    picture = torch.randint(0, 256, (3, sizes.image_size, sizes.image_size), dtype=torch.uint8)
    labels = engine.embed_labels(LABELS)
    runs: dict[str, Callable[[], object]] = {"bare": lambda: engine.embed_images([picture])}
    for name, options in OUTPUTS.items():
        runs[name] = lambda options=options: engine.lens([picture], labels, **options)
    seconds = _measure(runs, arguments.pairs)
    found = {
        name: ratio_of(seconds["bare"], taken).describe() for name, taken in seconds.items() if name != "bare"
    }
    report = {
        "model": MODEL,
        "weights": "random",
        "layers": sizes.layers,
        "runtime": engine.runtime,
        "dtype": engine.dtype,
        "over_bare": found,
        "machine": describe_machine(),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each, a round beginning with another one every time; the first round is not counted."""
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            before = time.process_time()
            runs[name]()
            seconds[name].append(time.process_time() - before)
        sys.stderr.write(f"round {round_} of {rounds}\n")
    return {name: taken[1:] for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
