"""The engine against plain transformers on a GPU, and what each output of the lens costs there.

    .venv/bin/python -m benchmarks.cuda [--model NAME] [--batches 32 64] [--pairs 15] [--out FILE]

Wall clock, the device waited for before and after, in interleaved pairs, for bfloat16 and float32. Ours
begins with RGB bytes in the computer's memory; transformers is handed pixel values that lie on the device, so
that neither its processor nor their way there counts against it. `tower` is ours from there on. Both end with
embeddings in the computer's memory. Memory is the most that torch had allocated on the device in one call.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import SiglipModel

from benchmarks.machine import describe_gpu, describe_machine
from benchmarks.outputs import LABELS, OUTPUTS
from benchmarks.pairs import PAIRS, Runs, compare, measure_in_turn, ratio_of
from benchmarks.random_checkpoint import pass_gflop, saved, sizes_of
from engine.catalog import Catalog, Checkpoint
from engine.residual import read_head
from engine.siglip import SiglipEngine
from jobs.pricing import price
from models.types import JobType
from tests.numerics.checkpoints import Sizes

MODEL: Final = "google/siglip-so400m-patch14-384"
BATCHES: Final = (32, 64)
DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}
PEAK_SIDE: Final = 8192
PEAK_ROUNDS: Final = 10
MIB: Final = 2**20


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="the first is the lens's")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--layers", type=int, help="fewer than the checkpoint has, for a quick look")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    sizes = sizes_of(arguments.model, arguments.layers)
    device = torch.device(arguments.device)
    found: dict[str, Any] = {
        "model": arguments.model,
        "weights": "random",
        "layers": sizes.layers,
        "machine": describe_machine() | describe_gpu(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    with saved(sizes) as folder:
        for dtype in DTYPES:
            found[dtype] = measure(
                arguments.model,
                folder,
                device,
                dtype,
                arguments.batches,
                arguments.pairs,
                arguments.layers,
            )
            write(found, arguments.out)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def write(found: dict[str, Any], out: Path | None) -> None:
    """What is known so far."""
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(
    model: str,
    folder: Path,
    device: torch.device,
    dtype: str,
    batches: Sequence[int],
    pairs: int,
    layers: int | None,
) -> dict[str, Any]:
    """Passes in each batch size, and the lens in the first of them."""
    started = time.perf_counter()
    engine = SiglipEngine(folder, device=str(device), dtype=dtype)
    found: dict[str, Any] = {
        "runtime": engine.runtime,
        "runtime_drift": engine.provenance["runtime_drift"],
        "runtime_fallback": engine.provenance["runtime_fallback"],
        "start_s": round(time.perf_counter() - started, 1),
        "product_tflop_s": measure_peak(device, DTYPES[dtype]),
    }
    sizes = sizes_of(model, layers)
    generator = torch.Generator().manual_seed(3)
    shape = (max(batches), 3, sizes.image_size, sizes.image_size)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    theirs: Any = SiglipModel.from_pretrained(folder, dtype=DTYPES[dtype], attn_implementation="sdpa")
    tower = theirs.vision_model.eval().to(device)
    for batch in batches:
        found[f"batch {batch}"] = measure_pass(engine, tower, pictures[:batch], sizes, pairs)
        sys.stderr.write(f"{dtype} {batch}: {json.dumps(found[f'batch {batch}'])}\n")
    del theirs, tower
    gc.collect()
    found["lens"] = measure_lens(engine, Catalog().find(model), pictures[: batches[0]], pairs)
    sys.stderr.write(f"{dtype} lens: {json.dumps(found['lens'])}\n")
    return found


def measure_pass(
    engine: SiglipEngine, tower: Any, pictures: torch.Tensor, sizes: Sizes, pairs: int
) -> dict[str, Any]:
    """Embeddings of a batch, by ours and by transformers, and by ours from pixel values on."""
    batch, listed = len(pictures), list(pictures)
    exact = (pictures.float() / 127.5 - 1).to(engine.device)
    pixel_values = exact.to(tower.dtype)

    def ours() -> torch.Tensor:
        return engine.embed_images(listed, batch_size=batch)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        pooled: torch.Tensor = tower(pixel_values=pixel_values).pooler_output
        return pooled.float().cpu()

    @torch.no_grad()
    def alone() -> torch.Tensor:
        # the last hidden states, and none kept on the way
        hidden = deque(engine._runtime.stream(exact), maxlen=1).pop()  # noqa: SLF001 - its verbs begin with bytes
        return read_head(engine.model.vision_model, hidden).cpu()

    distance = (ours() - theirs()).norm(dim=1).div(theirs().norm(dim=1)).max()
    ratio = compare(ours, theirs, pairs, clock=clock_of(engine.device))
    from_pixels = compare(alone, theirs, pairs, clock=clock_of(engine.device))
    gflop = batch * pass_gflop(sizes)
    return ratio.describe() | {
        "images_s": round(batch / ratio.ours_s, 1),
        "theirs_images_s": round(batch / ratio.theirs_s, 1),
        "tower": from_pixels.describe() | {"images_s": round(batch / from_pixels.ours_s, 1)},
        "tower_tflop_s": round(gflop / from_pixels.ours_s / 1000, 1),
        "theirs_tflop_s": round(gflop / from_pixels.theirs_s / 1000, 1),
        "largest_relative_distance": float(distance),
        "ours_memory": memory_of(ours, engine.device, batch),
        "theirs_memory": memory_of(theirs, engine.device, batch),
    }


def measure_lens(
    engine: SiglipEngine, checkpoint: Checkpoint, pictures: torch.Tensor, rounds: int
) -> dict[str, Any]:
    """Each output beside the bare pass: time, memory, and the memory that a worker reckons with."""
    batch, listed = len(pictures), list(pictures)
    labels = engine.embed_labels(LABELS)
    runs: Runs = {"bare": lambda: engine.embed_images(listed, batch_size=batch)}
    for name, options in OUTPUTS.items():
        runs[name] = partial(engine.lens, listed, labels, batch_size=batch, **options)
    seconds = measure_in_turn(runs, rounds, clock_of(engine.device))
    found: dict[str, Any] = {"batch": batch}
    for name, taken in seconds.items():
        over = {} if name == "bare" else {"over_bare": ratio_of(seconds["bare"], taken).describe()}
        found[name] = {
            "images_s": round(batch / statistics.median(taken), 1),
            **over,
            "memory": memory_of(runs[name], engine.device, batch),
            "reckoned_mib_a_picture": round(reckon_bytes(checkpoint, OUTPUTS.get(name)) / MIB, 2),
        }
    return found


def reckon_bytes(checkpoint: Checkpoint, options: dict[str, Any] | None) -> int:
    """The memory that a worker expects a picture to take in a batch."""
    if options is None:
        return price(JobType.EMBEDDING, {}, "image", checkpoint).item_bytes
    told = {"layers": "all", "patch_layers": None, "patch_method": "head", "labels": LABELS, **options}
    return price(JobType.LOGIT_LENS, told, "image", checkpoint).item_bytes


def memory_of(run: Callable[[], object], device: torch.device, batch: int) -> dict[str, float]:
    """The most that was allocated on the device, and what of it came and went with a picture."""
    if device.type != "cuda":
        return {}
    gc.collect()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    peak = torch.cuda.max_memory_allocated(device)
    return {"peak_mib": round(peak / MIB, 1), "mib_a_picture": round((peak - before) / batch / MIB, 2)}


def measure_peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """TFLOP/s of a large matrix product, float32 without TF32: what the device does at best."""
    if device.type != "cuda":
        return None
    left, right = (torch.randn(PEAK_SIDE, PEAK_SIDE, device=device, dtype=dtype) for _ in range(2))
    clock, seconds = clock_of(device), []
    for _ in range(PEAK_ROUNDS + 1):
        before = clock()
        left @ right
        seconds.append(clock() - before)
    return round(2 * PEAK_SIDE**3 / statistics.median(seconds[1:]) / 1e12, 1)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Wall-clock seconds at which the device has done all that it was told."""

    def read() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


if __name__ == "__main__":
    main()
