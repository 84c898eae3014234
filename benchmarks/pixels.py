"""From a JPEG's bytes to pixel values: our exact way and our drafts against the stock processor.

    .venv/bin/python -m benchmarks.pixels [--pairs 25] [--out benchmarks/results/pixels.json]

Stock is Pillow's `open` and `convert("RGB")`, then `SiglipImageProcessorPil`; ours is `pictures.decode.read`,
then `engine.preprocess.normalize`. One core, CPU time, in turn. The pictures are generated: slopes, texture
down to single pixels and sensor noise, saved as cameras do (quality 88, 4:2:0).
"""

import argparse
import io
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import PIL
import simplejpeg
import torch
import transformers
from PIL import Image
from transformers import SiglipImageProcessorPil

from benchmarks.machine import describe_machine
from benchmarks.pairs import PAIRS, compare, use_one_core
from engine.preprocess import PixelPath, normalize, read_pixel_path
from pictures.decode import read, side_of_draft
from tests.scenery import scenery

SIZES: Final = {"12 MP": (4000, 3000), "1 MP": (1200, 900), "200 kB": (1060, 800)}
SIDES: Final = (224, 384)
CALLS: Final = {"12 MP": 1, "1 MP": 5, "200 kB": 5}
QUALITY: Final = 88
SENSOR_NOISE: Final = 8.0


@dataclass(frozen=True, slots=True)
class Paths:
    """The two ways to the pixel values of one checkpoint's square."""

    processor: Any
    pixels: PixelPath

    def stock(self, data: bytes) -> torch.Tensor:
        """As the documentation of transformers has it."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        values: torch.Tensor = self.processor(image, return_tensors="pt")["pixel_values"]
        return values

    def exact(self, data: bytes) -> torch.Tensor:
        """What `pixels: exact` reads."""
        return normalize(self.pixels, read(data).image)

    def draft(self, data: bytes) -> torch.Tensor:
        """What `pixels: draft` reads."""
        return normalize(self.pixels, read(data, draft_side=side_of_draft(self.pixels.side)).image)


def main() -> None:
    """Measure, then print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    arguments = parser.parse_args()
    machine = describe_machine()
    use_one_core()
    torch.set_num_threads(1)
    found = {
        "machine": machine | {"cores_used": 1},
        "versions": {
            "pillow": PIL.__version__,
            "simplejpeg": simplejpeg.__version__,
            "transformers": transformers.__version__,
        },
        "clock": "CPU time, all threads",
        "rows": [
            row
            for name, size in SIZES.items()
            for row in measure(name, picture_of(size), CALLS[name], arguments.pairs)
        ],
    }
    report = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(report)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report, encoding="utf-8")


def picture_of(size: tuple[int, int]) -> bytes:
    """A JPEG as a camera would save it."""
    file = io.BytesIO()
    scenery(size, noise=SENSOR_NOISE).save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def measure(name: str, data: bytes, calls: int, pairs: int) -> list[dict[str, Any]]:
    """One row for each checkpoint's square: how many times faster, and how far from the stock values.

    Deviations are in levels of 255, of which a pixel value of SigLIP's is 2 / 255.
    """
    rows = []
    for side in SIDES:
        processor = SiglipImageProcessorPil(
            size={"height": side, "width": side}, resample=Image.Resampling.BICUBIC
        )
        paths = Paths(processor, read_pixel_path(processor, side))
        stock = paths.stock(data)
        row: dict[str, Any] = {"picture": name, "bytes": len(data), "side": side}
        for mode, ours in (("exact", paths.exact), ("draft", paths.draft)):
            levels = (ours(data) - stock).abs() * 127.5
            ratio = compare(partial(ours, data), partial(paths.stock, data), pairs, calls=calls)
            row[mode] = ratio.describe() | {
                "max_deviation": round(float(levels.max()), 3),
                "mean_deviation": round(float(levels.mean()), 3),
            }
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
