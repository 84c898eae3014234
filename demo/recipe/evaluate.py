"""The figures of the model card, on fresh scenes from fixed seeds.

    python -m demo.recipe.evaluate demo/checkpoint --out eval.json --sheet lens-by-layer.png

Takes half a minute on a CPU. `--share 0.1` measures a tenth of the scenes, for a quick look.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import torch

from demo.recipe.patches import draw_same_colour, measure_pointing, measure_same_colour
from demo.recipe.pooled import measure_several, measure_single, measure_unrelated
from demo.recipe.reading import Checkpoint
from demo.recipe.sheet import draw_sheet
from demo.sampling import HeldOut, scenes
from demo.world import HELD_OUT, PAIRS, label

SINGLES: Final = 500
DRAWN_FOR_SEVERAL: Final = 420
SEVERAL: Final = 220
SAME_COLOUR: Final = 150
LARGER_SIDE: Final = 320


def main() -> None:
    """Read the command line, measure, and write."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.recipe.evaluate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint of the shapes world")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON (default: standard output)")
    parser.add_argument("--sheet", type=Path, help="PNG for patch lenses of a few scenes, layer by layer")
    parser.add_argument("--share", type=float, default=1.0, help="of the scenes (default: 1, all of them)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = Checkpoint(chosen.checkpoint)
    figures = json.dumps(measure(checkpoint, chosen.share), indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(figures, encoding="utf-8")
    else:
        sys.stdout.write(figures)
    if chosen.sheet:
        draw_sheet(checkpoint).save(chosen.sheet)


def measure(checkpoint: Checkpoint, share: float = 1.0) -> dict[str, Any]:
    """All figures of the card; `share` below 1 uses the first scenes of each set only."""
    figures: dict[str, Any] = {
        "pairs": len(PAIRS),
        "held_out": [label(pair) for pair in HELD_OUT],
        "layers": checkpoint.depth,
        "grid": checkpoint.grid,
        "scale": round(checkpoint.scale, 2),
        "bias": round(checkpoint.bias, 2),
    }
    return figures | _measure_singles(checkpoint, share) | _measure_several(checkpoint, share)


def _measure_singles(checkpoint: Checkpoint, share: float) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, held_out, seed, drawn_at in (
        ("seen", HeldOut.NEVER, 9001, checkpoint.side),
        ("held", HeldOut.ONLY, 9002, checkpoint.side),
        ("seen_320px", HeldOut.NEVER, 9003, LARGER_SIDE),
    ):
        drawn = list(scenes(seed, round(SINGLES * share), things=1, held_out=held_out))
        states = checkpoint.stream(drawn, drawn_at)
        figures[name] = measure_single(checkpoint, drawn, states)
        if name == "seen":
            figures["p_unrelated_words"] = measure_unrelated(checkpoint, states)
    return figures


def _measure_several(checkpoint: Checkpoint, share: float) -> dict[str, Any]:
    drawn = scenes(9004, round(DRAWN_FOR_SEVERAL * share), held_out=HeldOut.ANY, distinct=True)
    several = [scene for scene in drawn if len(scene.things) > 1][:SEVERAL]
    states = checkpoint.stream(several)
    same_colour = draw_same_colour(round(SAME_COLOUR * share), seed=9006)
    return {
        "multi": measure_several(checkpoint, several, states),
        "patch": measure_pointing(checkpoint, several, states),
        "patch_same_colour": measure_same_colour(checkpoint, same_colour, checkpoint.stream(same_colour)),
    }


if __name__ == "__main__":
    main()
