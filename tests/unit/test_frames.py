"""Pictures of several frames: the first is read, how many there are is said, and counting is cheap."""

import struct
import time

import numpy as np
import pytest
from PIL import Image

from pictures.decode import Limits, read
from pictures.errors import ImageTooLargeError, ImageUnreadableError
from pictures.frames import MAX_STEPS, tiff_pages
from tests.encoded import encode

FORMATS = ["GIF", "WEBP", "PNG", "AVIF", "MPO", "TIFF"]
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
CHEAP_SECONDS = 2.0


def animation(form: str, frames: int) -> bytes:
    pictures = [Image.new("RGB", (32, 16), COLOURS[number % 3]) for number in range(frames)]
    options = {"lossless": True} if form == "WEBP" else {}
    return encode(pictures[0], form, save_all=True, append_images=pictures[1:], **options)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_the_first_frame_is_read_and_all_are_counted(form: str, frames: int) -> None:
    found = read(animation(form, frames))
    assert found.frames == frames
    assert (found.width, found.height) == found.image.size == (32, 16)
    middle = np.array(found.image.getpixel((16, 8)))
    # AVIF and MPO are lossy
    assert np.abs(middle - COLOURS[0]).max() <= 12


@pytest.mark.parametrize("form", ["JPEG", "BMP"])
def test_formats_without_frames_have_one(form: str) -> None:
    assert read(encode(Image.new("RGB", (8, 8)), form)).frames == 1


@pytest.mark.parametrize("form", FORMATS)
def test_more_frames_than_the_limit_are_refused(form: str) -> None:
    data = animation(form, 5)
    assert read(data, Limits(frames=5)).frames == 5
    with pytest.raises(ImageTooLargeError, match="more than 4 frames"):
        read(data, Limits(frames=4))


def gif_of(frames: int) -> bytes:
    """A GIF of pixels; the frames are copies of each other's bytes."""
    one = encode(Image.new("P", (1, 1)), "GIF")
    start = one.index(b",")
    return one[:start] + one[start:-1] * frames + b";"


def test_a_hundred_thousand_frames_are_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(ImageTooLargeError, match="more than 10000 frames"):
        read(gif_of(100_000))
    with pytest.raises(ImageTooLargeError, match="more than 10000 frames"):
        read(tiff_of(pages=100_000))
    assert time.process_time() - began < CHEAP_SECONDS


def test_a_gif_too_long_winded_to_be_counted_is_read_and_has_an_unknown_number() -> None:
    """A comment of millions of single bytes behind the first frame."""
    one = encode(Image.new("P", (1, 1)), "GIF")
    data = one[:-1] + b"!\xfe" + b"\x01x" * (20 * MAX_STEPS) + b"\x00;"
    began = time.process_time()
    found = read(data)
    assert time.process_time() - began < CHEAP_SECONDS
    assert (found.frames, found.image.size) == (None, (1, 1))


def tiff_of(pages: int, *, big: bool = False, order: str = "<", loop: bool = False) -> bytes:
    """A TIFF whose pages all show the same two grey pixels; `loop` links the last to the first."""
    number, entry, link = (order + form for form in (("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")))
    kind = 16 if big else 4
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + "HHHQ", 43, 8, 0, 18) if big else struct.pack(order + "HI", 42, 10)
    pixels_at = len(head)
    head = head[: -struct.calcsize(link)] + struct.pack(link, pixels_at + 2) + b"\x10\xf0"
    tags = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 273: pixels_at, 277: 1, 278: 1, 279: 2}
    page = struct.pack(number, len(tags))
    page += b"".join(struct.pack(entry, tag, kind, 1, value) for tag, value in tags.items())
    size = len(page) + struct.calcsize(link)
    links = [len(head) + size * following for following in range(1, pages)] + [len(head) if loop else 0]
    return head + b"".join(page + struct.pack(link, following) for following in links)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("loop", [False, True])
def test_pages_are_counted_in_every_kind_of_tiff(big: bool, order: str, loop: bool) -> None:
    data = tiff_of(3, big=big, order=order, loop=loop)
    assert tiff_pages(data, 100) == 3
    assert tiff_pages(data, 1) == 2
    if big and order == ">":
        # Pillow knows no such file
        with pytest.raises(ImageUnreadableError):
            read(data)
        return
    found = read(data)
    assert found.frames == 3
    assert [found.image.getpixel((x, 0)) for x in range(2)] == [(16,) * 3, (240,) * 3]
