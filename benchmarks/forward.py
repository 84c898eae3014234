"""The engine against plain transformers on one core: image embeddings of base-patch16-224, batch of 8.

    .venv/bin/python -m benchmarks.forward [--pairs 15] [--out benchmarks/results/forward.json]

CPU time, in interleaved pairs; beside it what share of the core's measured peak each reaches.
"""

# ruff: noqa: E402 - one core, before torch starts its threads
from benchmarks.pairs import PAIRS, Ratio, compare, use_one_core

use_one_core()

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import SiglipModel

from benchmarks.machine import describe_machine
from benchmarks.peak import measure_peak
from benchmarks.random_checkpoint import pass_gflop, saved, sizes_of
from engine.siglip import SiglipEngine

MODEL = "google/siglip-base-patch16-224"
BATCH = 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = sizes_of(MODEL)
    found: dict[str, Any] = {"model": MODEL, "batch": BATCH, "weights": "random"}
    with saved(sizes) as folder:
        pictures = torch.randint(0, 256, (BATCH, 3, sizes.image_size, sizes.image_size), dtype=torch.uint8)
        peak = measure_peak()
        gflop = BATCH * pass_gflop(sizes)
        for ours, theirs in (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")):
            run, runtime = _engine(folder, pictures, ours)
            ratio = compare(run, _transformers(folder, pictures, theirs), arguments.pairs)
            name = f"{runtime} {ours} / transformers {theirs}"
            found[name] = ratio.describe() | _shares(ratio, gflop, peak, ours, theirs)
            sys.stderr.write(f"{name}: {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})\n")
    found |= {"peak_gflop_s": peak, "machine": describe_machine(), "torch": torch.__version__}
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.write_text(report, encoding="utf-8")


def _engine(folder: Path, pictures: torch.Tensor, dtype: str) -> tuple[Callable[[], object], str]:
    engine = SiglipEngine(folder, device="cpu", dtype=dtype)
    batch = list(pictures)
    return lambda: engine.embed_images(batch, batch_size=BATCH), engine.runtime


def _transformers(folder: Path, pictures: torch.Tensor, dtype: str) -> Callable[[], object]:
    """Its vision tower from pixel values on: the work of its processor is not counted against it."""
    model: Any = SiglipModel.from_pretrained(folder, dtype=DTYPES[dtype], attn_implementation="sdpa").eval()
    pixel_values = (pictures.float() / 127.5 - 1).to(DTYPES[dtype])

    def run() -> object:
        with torch.inference_mode():
            return model.get_image_features(pixel_values=pixel_values)

    return run


def _shares(
    ratio: Ratio, gflop: float, peak: dict[str, float] | None, ours: str, theirs: str
) -> dict[str, float]:
    if peak is None:
        return {}
    return {
        "ours_of_peak": round(gflop / ratio.ours_s / peak[ours], 3),
        "theirs_of_peak": round(gflop / ratio.theirs_s / peak[theirs], 3),
    }


if __name__ == "__main__":
    main()
