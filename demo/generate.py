"""Makes labelled scenes: pictures, and a table of what they show.

    python -m demo.generate OUT --count 1000 --seed 5

Writes OUT/images/scene-00000.jpg, ... and OUT/labels.csv with the columns custom_id, file, label (the names
of the things, joined by "and") and objects: a JSON list of colour, shape, box [left, top, right, bottom] in
pixels, and whether the pair was held out of the demo checkpoint's training. `--seed 77 --count 24` gives the
shipped samples.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from demo.drawing import render
from demo.outlines import box
from demo.sampling import gallery
from demo.world import HELD_OUT, Scene, label

COLUMNS: Final = ("custom_id", "file", "label", "objects")
JPEG_QUALITY: Final = 92


def main() -> None:
    """Read the command line and write the scenes."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.generate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("out", type=Path, help="folder to write to; it is made")
    parser.add_argument("--count", type=_whole, default=24, help="how many scenes (default: 24)")
    parser.add_argument("--seed", type=int, default=77, help="the same seed, the same scenes (default: 77)")
    parser.add_argument("--size", type=_side, default=320, help="side in pixels (default: 320)")
    parser.add_argument("--form", choices=("jpg", "png"), default="jpg", help="kind of file (default: jpg)")
    parser.add_argument(
        "--several-every",
        type=_whole,
        default=6,
        metavar="N",
        help="every N-th scene shows two or three things, the others one; 0: none does (default: 6)",
    )
    chosen = parser.parse_args()
    write(
        chosen.out,
        chosen.count,
        chosen.seed,
        size=chosen.size,
        form=chosen.form,
        several_every=chosen.several_every,
    )


def write(
    out: Path, count: int, seed: int, *, size: int = 320, form: str = "jpg", several_every: int = 6
) -> None:
    """Write `count` scenes and their labels under `out`; `form` is "jpg" or "png"."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    made = gallery(seed, count, several_every)
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        shown = track(made, "Scenes", total=count, console=Console(stderr=True))
        for index, scene in enumerate(shown):
            custom_id = f"scene-{index:05d}"
            name = f"images/{custom_id}.{form}"
            render(scene, size).save(out / name, quality=JPEG_QUALITY)
            table.writerow((custom_id, name, " and ".join(map(label, scene.things)), describe(scene, size)))


def describe(scene: Scene, size: int) -> str:
    """What a scene shows, as JSON."""
    things: list[dict[str, Any]] = [
        {
            "colour": thing.pair.colour,
            "shape": thing.pair.shape,
            "box": box(thing, size),
            "held_out": thing.pair in HELD_OUT,
        }
        for thing in scene.things
    ]
    return json.dumps(things)


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


def _side(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"a picture of {number} pixels has no pixels")
    return number


if __name__ == "__main__":
    main()
