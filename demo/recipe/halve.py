"""Makes the float16 copy of a trained checkpoint that is shipped, and says what halving changed.

python -m demo.recipe.halve TRAINED OUT
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import torch
from transformers import SiglipModel

from demo.recipe.reading import Checkpoint
from demo.sampling import HeldOut, scenes

CHECKED_SCENES: Final = 100
CHECK_SEED: Final = 1
DRAWN_AT: Final = 320


def main() -> None:
    """Read the command line, write the copy, compare it with what it was made of."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.recipe.halve", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("trained", type=Path, help="folder of a float32 checkpoint")
    parser.add_argument("out", type=Path, help="folder for the float16 copy; it must not exist yet")
    chosen = parser.parse_args()
    halve(chosen.trained, chosen.out)
    sys.stdout.write(json.dumps(compare(chosen.trained, chosen.out)) + "\n")


def halve(trained: Path, out: Path) -> None:
    """Copy a checkpoint with its weights in float16.

    Raises:
        FileExistsError: there is something at `out`.
    """
    shutil.copytree(trained, out)
    model: Any = SiglipModel.from_pretrained(trained, dtype=torch.float16)
    model.save_pretrained(out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # How attention is computed is the choice of whoever loads it.
    config.pop("attn_implementation", None)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")


def compare(trained: Path, halved: Path, count: int = CHECKED_SCENES) -> dict[str, float]:
    """The largest difference of a last-layer logit, and how often the top pair is the same."""
    shown = list(scenes(CHECK_SEED, count, held_out=HeldOut.ANY))
    before, after = (
        checkpoint.score(checkpoint.pool(checkpoint.stream(shown, DRAWN_AT)[-1]), checkpoint.pairs)
        for checkpoint in (Checkpoint(trained), Checkpoint(halved))
    )
    return {
        "largest_difference": (before - after).abs().max().item(),
        "same_top": (before.argmax(1) == after.argmax(1)).float().mean().item(),
    }


if __name__ == "__main__":
    main()
