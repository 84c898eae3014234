"""Writes the manifests of the workers, a folder for each checkpoint: `python -m deploy.workers [--check]`.

One template for all of them, and each written out: what a cluster is given can be read, and an overlay names
the folders of the checkpoints that it serves.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "kubernetes" / "workers"
TEMPLATE: Final = FOLDER / "worker.yaml.in"
CHECKPOINTS: Final = Path(__file__).parents[1] / "engine" / "checkpoints.json"
KUSTOMIZATION: Final = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - worker.yaml
"""
GIBIBYTE: Final = 2**30
WEIGHT_BYTES: Final = 4
BATCH_GIB: Final = 2
"""What a batch may take on a CPU unless LENSQUEUE_BATCH_BYTES says otherwise."""
DECODERS_GIB: Final = 3
"""LENSQUEUE_DECODERS times LENSQUEUE_DECODE_MEMORY_BYTES."""


def manifests() -> Iterator[tuple[Path, str]]:
    """Every file, with what is to be in it."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    for row in json.loads(CHECKPOINTS.read_text(encoding="utf-8"))["checkpoints"]:
        model = str(row["checkpoint"])
        name = model.rpartition("/")[2]
        told = {"model": model, "name": name, "memory": memory_of(row), "least": int(row["default"])}
        yield FOLDER / name / "worker.yaml", template.substitute(told)
        yield FOLDER / name / "kustomization.yaml", KUSTOMIZATION


def memory_of(row: dict[str, Any]) -> str:
    """For torch's weights and a runtime's copy of them, a batch, and the decoders at their worst."""
    weights_gib = row["parameters"] * WEIGHT_BYTES / GIBIBYTE
    return f"{math.ceil(2 * weights_gib) + BATCH_GIB + DECODERS_GIB}Gi"


def main(arguments: list[str]) -> int:
    """Write them; with `--check`, say which are not as they would be written."""
    wanted = dict(manifests())
    if arguments == ["--check"]:
        wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        wrong += set(FOLDER.glob("*/*")) - set(wanted)
        for path in sorted(wrong):
            sys.stderr.write(f"{path}: not as `python -m deploy.workers` writes it\n")
        return int(bool(wrong))
    for path, text in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
