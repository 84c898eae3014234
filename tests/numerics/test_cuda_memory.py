"""The memory of a GPU: bytes on their way to it, and what happens where it is full."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.catalog import DEMO_MODEL
from engine.errors import OutOfMemoryError
from engine.feed import feed
from engine.lens import Lens
from engine.preprocess import normalize
from engine.siglip import SiglipEngine
from worker.pace import Room
from worker.steps import run_in_steps

DEVICE = "cuda"
LABELS = ["red circle", "blue star", "green heart"]
MANY = 512
ROOM_MIB = 128
"""Too little for the pixels of so many pictures on their way; more than cuBLAS takes for itself."""

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def noise() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [torch.randint(0, 256, (3, 80, 80), dtype=torch.uint8, generator=generator) for _ in range(MANY)]


@contextmanager
def little_room() -> Iterator[None]:
    """ROOM_MIB of the device beside what is taken."""
    gc.collect()
    torch.cuda.empty_cache()
    _, whole_bytes = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + ROOM_MIB * 2**20) / whole_bytes
    )
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_pixels_arrive_in_order_with_the_bits_of_normalize(
    demo: SiglipEngine, noise: list[torch.Tensor], pictures: list[Image.Image]
) -> None:
    path = demo._pixels
    batches: list[list[Any]] = [
        *(list(noise[first : first + 64]) for first in range(0, MANY, 64)),
        [torch.rand(3, 20, 30), pictures[2]],
        list(pictures),
    ]
    fed = feed(path, path.table.to(DEVICE), batches)
    for batch in batches:
        ours = next(fed)
        assert ours.device.type == DEVICE
        assert torch.equal(ours.cpu(), normalize(path, batch))
    assert next(fed, None) is None


@pytest.mark.parametrize("runtime", ["torch", "compiled"])
def test_a_full_gpu_is_said_and_half_a_batch_is_tried_until_it_fits(
    noise: list[torch.Tensor], runtime: str, record_property: Callable[[str, object], None]
) -> None:
    engine = SiglipEngine(DEMO_MODEL, device=DEVICE, runtime=runtime)
    directions = engine.embed_labels(LABELS)
    expected = engine.lens(noise, directions, batch_size=16)
    tried: list[int] = []
    held: list[int] = []

    def run(part: Sequence[torch.Tensor]) -> Lens:
        tried.append(len(part))
        held.append(torch.cuda.memory_allocated())
        return engine.lens(list(part), directions, batch_size=len(part))

    with little_room():
        with pytest.raises(OutOfMemoryError, match="smaller batch_size"):
            engine.embed_images(noise, batch_size=MANY)
        steps = run_in_steps(
            noise, run, room=Room(items=MANY, memory_bytes=2**40), item_bytes=2**20, step=lambda: None
        )
    record_property("tried", list(zip(tried, held, strict=True)))
    assert steps.failed == []
    # nothing of a pass that failed is left
    assert max(held) <= held[0] + 2**20
    assert tried[0] == MANY
    assert max(len(part) for part, _ in steps.done) < MANY
    found = np.concatenate([lens.cosine for _, lens in steps.done])
    assert torch.equal(torch.stack(list(chain(*(part for part, _ in steps.done)))), torch.stack(noise))
    assert np.abs(found - expected.cosine).max() < 1e-5


def test_memory_does_not_grow_with_the_pictures(noise: list[torch.Tensor]) -> None:
    engine = SiglipEngine(DEMO_MODEL, device=DEVICE, runtime="torch")
    directions = engine.embed_labels(LABELS)
    peaks = []
    for count in (64, MANY):
        torch.cuda.reset_peak_memory_stats()
        engine.lens(noise[:count], directions, ("patch",), patch_layers="all", batch_size=16)
        peaks.append(torch.cuda.max_memory_allocated())
    few, many = peaks
    assert many < few * 1.05
