"""What each output of the lens costs beside the bare pass, on one core: so400m-patch14-384, one picture.

    .venv/bin/python -m benchmarks.lens [--dtype bfloat16] [--pairs 15] [--layers N] [--out FILE]

CPU time; the bare pass and each lens in turn, round after round. Token outputs are read at every layer, the
patch lens by value; by the whole head at the last layer, as by default.
"""

# ruff: noqa: E402 - one core, before torch starts its threads
from benchmarks.pairs import PAIRS, Runs, measure_in_turn, ratio_of, use_one_core

use_one_core()

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.machine import describe_machine
from benchmarks.outputs import LABELS, OUTPUTS
from benchmarks.random_checkpoint import saved, sizes_of
from engine.siglip import SiglipEngine

MODEL = "google/siglip-so400m-patch14-384"


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
    runs: Runs = {"bare": lambda: engine.embed_images([picture])}
    for name, options in OUTPUTS.items():
        runs[name] = partial(engine.lens, [picture], labels, **options)
    seconds = measure_in_turn(runs, arguments.pairs)
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


if __name__ == "__main__":
    main()
