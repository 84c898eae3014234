"""The way of batches to a GPU, as far as it can be gone without one: order, bits, and what is no bytes."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from engine.errors import InvalidArgumentError
from engine.feed import feed
from engine.preprocess import normalize
from engine.siglip import SiglipEngine


def test_batches_arrive_in_order_with_the_bits_of_normalize(
    demo: SiglipEngine, pictures: list[Image.Image]
) -> None:
    path = demo._pixels
    batches: list[list[object]] = [
        list(pictures[:2]),
        [torch.rand(3, 20, 30), pictures[2]],
        list(pictures[3:]),
    ]
    fed = list(feed(path, path.table, batches))
    assert [len(batch) for batch in fed] == [2, 2, 2]
    for ours, batch in zip(fed, batches, strict=True):
        assert torch.equal(ours, normalize(path, batch))
    assert list(feed(path, path.table, [])) == []


def test_one_batch_is_read_ahead_and_no_more(demo: SiglipEngine, pictures: list[Image.Image]) -> None:
    read: list[int] = []

    def batches() -> Iterator[list[Image.Image]]:
        for index, picture in enumerate(pictures):
            read.append(index)
            yield [picture]

    fed = feed(demo._pixels, demo._pixels.table, batches())
    for step in range(3):
        next(fed)
        assert read == list(range(step + 2))


def test_what_is_no_picture_is_refused(demo: SiglipEngine) -> None:
    with pytest.raises(InvalidArgumentError, match="image"):
        list(feed(demo._pixels, demo._pixels.table, [["picture.jpg"]]))
