"""Small checkpoints and engines, made once a session."""

import csv
import json
import os
from pathlib import Path

# Nothing here may reach for a network; set before the hub library reads it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from PIL import Image

from engine.catalog import DEMO_MODEL
from engine.siglip import SiglipEngine
from tests.numerics.checkpoints import save_siglip, save_siglip2
from tests.numerics.reference import Reference

SAMPLES = Path(__file__).resolve().parents[2] / "demo" / "samples"


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_siglip(tmp_path_factory.mktemp("siglip") / "checkpoint")


@pytest.fixture(scope="session")
def siglip2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_siglip2(tmp_path_factory.mktemp("siglip2") / "checkpoint")


@pytest.fixture(scope="session")
def siglip(siglip_folder: Path) -> SiglipEngine:
    return SiglipEngine(siglip_folder, device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def siglip2(siglip2_folder: Path) -> SiglipEngine:
    return SiglipEngine(siglip2_folder, device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def demo() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def fast_siglip(siglip_folder: Path) -> SiglipEngine:
    return SiglipEngine(siglip_folder, device="cpu", runtime="openvino")


@pytest.fixture(scope="session")
def fast_siglip2(siglip2_folder: Path) -> SiglipEngine:
    return SiglipEngine(siglip2_folder, device="cpu", runtime="openvino")


@pytest.fixture(scope="session")
def fast_demo() -> SiglipEngine:
    return SiglipEngine(DEMO_MODEL, device="cpu", runtime="openvino")


@pytest.fixture(params=["siglip", "siglip2", "demo", "fast_siglip", "fast_siglip2", "fast_demo"])
def engine(request: pytest.FixtureRequest) -> SiglipEngine:
    """Each kind of checkpoint in turn, on each runtime that a CPU has without a compiler."""
    return _named(request)


@pytest.fixture(params=["siglip", "siglip2", "demo"])
def reference_engine(request: pytest.FixtureRequest) -> SiglipEngine:
    """Each kind of checkpoint on the library's own modules, where laws hold to the bit."""
    return _named(request)


def _named(request: pytest.FixtureRequest) -> SiglipEngine:
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, SiglipEngine)
    return chosen


@pytest.fixture
def folder(engine: SiglipEngine) -> Path:
    return Path(engine.model.config._name_or_path)


@pytest.fixture
def reference(folder: Path) -> Reference:
    """The formulas on the weights of `engine`."""
    return Reference(folder)


@pytest.fixture(scope="session")
def scenes() -> list[tuple[Image.Image, str]]:
    """The sample pictures of the demo world with the text of what they show."""
    with (SAMPLES / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(Image.open(SAMPLES / row["file"]).convert("RGB"), row["label"]) for row in rows]


@pytest.fixture(scope="session")
def objects() -> list[tuple[int, str, tuple[int, int, int, int]]]:
    """What is drawn in `scenes`: index of the scene, name, box of left, top, right, bottom in its pixels."""
    with (SAMPLES / "labels.csv").open(encoding="utf-8") as file:
        drawn = [json.loads(row["objects"]) for row in csv.DictReader(file)]
    return [
        (index, f"{each['colour']} {each['shape']}", tuple(each["box"]))
        for index, scene in enumerate(drawn)
        for each in scene
    ]


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Five pictures of noise, none of them square and no two of one size."""
    generator = np.random.default_rng(3)
    sizes = [(61, 83), (200, 40), (48, 49), (97, 130), (30, 31)]
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
