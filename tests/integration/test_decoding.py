"""Decoding in confined processes: the same pixels, and no picture that harms another or the worker."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from engine.preprocess import PixelPath, normalize
from jobs.blobs import BlobStore
from pictures.convert import squash
from pictures.decode import Limits, decode
from pictures.errors import PictureError
from pictures.thumbnail import thumbnail
from tests.encoded import PICTURES, encode, noise, png_of_size
from tests.integration.test_broker import wait_until
from tests.ledger import TENANT
from tests.processes import is_alive
from worker.decode_pool import DecodePool
from worker.decoding import start_decoding
from worker.decoding_process import Picture
from worker.feeding import DecodingStoppedError

SIDE = 48
BICUBIC = 3
GENEROUS = 60.0
ROOMY = 1 << 30


def a_pool(**changes: Any) -> DecodePool:
    settings: dict[str, Any] = {"processes": 1, "seconds_per_picture": GENEROUS, "memory_bytes": ROOMY}
    return DecodePool(SIDE, BICUBIC, **(settings | changes))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """Two decoders that nothing bad happens to."""
    with a_pool(processes=2) as made:
        yield made


def given(*pictures: bytes) -> list[Callable[[], bytes]]:
    return [partial(bytes, data) for data in pictures]


@pytest.fixture(scope="module")
def large() -> bytes:
    """63 million pixels: a second of work, 253 MB in Pillow, a few hundred kB as sent."""
    return png_of_size(7950, 7950, rows=7950)


@pytest.mark.parametrize("name", PICTURES)
def test_a_decoder_reads_what_this_process_would(pool: DecodePool, name: str) -> None:
    data = PICTURES[name]
    (found,) = pool.submit(given(data), thumbnails=True).result()
    image = decode(data)
    assert isinstance(found, Picture), found
    assert (found.width, found.height) == image.size
    assert found.frames == (2 if "several" in name else 1)
    assert found.thumbnail == thumbnail(image)
    square = np.array(squash(image, SIDE, BICUBIC))
    np.testing.assert_array_equal(found.pixels, square.transpose(2, 0, 1))


def test_the_engine_reads_the_same_bits_as_from_the_picture_itself(pool: DecodePool, picture: bytes) -> None:
    (found,) = pool.submit(given(picture)).result()
    assert isinstance(found, Picture)
    assert found.thumbnail is None
    table = torch.randn(3, 256, generator=torch.Generator().manual_seed(1))
    path = PixelPath(SIDE, BICUBIC, table, mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = torch.from_numpy(found.pixels)
    assert pixels.data_ptr() == found.pixels.ctypes.data
    assert torch.equal(normalize(path, pixels), normalize(path, Image.open(io.BytesIO(picture))))


def damaged() -> bytes:
    data = bytearray(PICTURES["PNG"])
    position = data.index(b"IDAT") + 8
    data[position : position + 20] = bytes(20)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image-empty"),
        (b"this is a text that somebody named photo.jpg", "not-an-image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-an-image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not-an-image"),
        (b"BM is how this text begins, and it is no bitmap at all", "not-an-image"),
        (encode(noise(), "PPM"), "not-an-image"),
        (encode(noise(), "ICO"), "not-an-image"),
        *((PICTURES[form][: len(PICTURES[form]) * 6 // 10], "image-truncated") for form in ("JPEG", "PNG")),
        *((PICTURES[form][: len(PICTURES[form]) * 6 // 10], "image-truncated") for form in ("WebP", "AVIF")),
        (damaged(), "image-unreadable"),
        (png_of_size(30_000, 30_000), "image-too-large"),
        (png_of_size(2_000_000_000, 2), "image-too-large"),
        (bytes(33 * 2**20), "image-too-large"),
    ],
)
def test_a_bad_picture_gets_its_own_error_and_keeps_the_decoder(
    pool: DecodePool, data: bytes, code: str
) -> None:
    # they start by themselves, and the second one perhaps after the first has begun
    wait_until(lambda: len(pool.pids()) == 2)
    before = pool.pids()
    bad, good = pool.submit(given(data, PICTURES["PNG"])).result()
    assert isinstance(good, Picture)
    assert isinstance(bad, PictureError)
    assert bad.code == code
    with pytest.raises(PictureError) as here:
        decode(data)
    assert str(bad) == str(here.value)
    assert pool.pids() == before


def test_a_thousand_pictures_come_back_in_order_and_leave_nothing_open(pool: DecodePool) -> None:
    pool.submit(given(PICTURES["PNG"])).result()
    before = open_descriptors()
    colours = [(index % 256, index // 256, 7) for index in range(1000)]
    pictures = [encode(Image.new("RGB", (5, 5), colour), "BMP") for colour in colours]
    found = pool.submit(given(*pictures)).result()
    assert [tuple(each.pixels[:, 20, 20]) for each in found if isinstance(each, Picture)] == colours
    assert open_descriptors() == before


def kill_when_busy(pool: DecodePool, number: signal.Signals, *, other_than: int = 0) -> int:
    """Send the one decoder a signal in the middle of a picture; returns its process id."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for pid in pool.pids():
            if pid != other_than and psutil.Process(pid).status() == psutil.STATUS_RUNNING:
                time.sleep(0.1)
                os.kill(pid, number)
                return pid
        time.sleep(0.005)
    raise AssertionError("no decoder was busy")


def test_a_picture_whose_decoder_dies_once_is_decoded_by_another(large: bytes) -> None:
    with a_pool() as pool:
        pool.submit(given(PICTURES["PNG"])).result()
        pending = pool.submit(given(large, PICTURES["PNG"], PICTURES["JPEG"]))
        killed = kill_when_busy(pool, signal.SIGSEGV)
        assert all(isinstance(found, Picture) for found in pending.result())
        assert pool.pids() != [killed]


def test_a_picture_that_brings_down_two_decoders_fails_alone(large: bytes) -> None:
    with a_pool() as pool:
        pool.submit(given(PICTURES["PNG"])).result()
        pending = pool.submit(given(large, PICTURES["PNG"], PICTURES["JPEG"]))
        first = kill_when_busy(pool, signal.SIGSEGV)
        kill_when_busy(pool, signal.SIGABRT, other_than=first)
        bad, *others = pending.result()
        assert all(isinstance(found, Picture) for found in others)
        assert isinstance(bad, PictureError)
        assert bad.code == "decoder-crashed"


def test_a_picture_beyond_the_memory_limit_fails_alone(large: bytes) -> None:
    with a_pool(memory_bytes=200 * 2**20) as pool:
        bad, good = pool.submit(given(large, PICTURES["PNG"])).result()
        assert isinstance(good, Picture)
        assert isinstance(bad, PictureError)
        assert bad.code == "image-too-costly"


def test_a_picture_beyond_the_time_limit_fails_alone(large: bytes) -> None:
    with a_pool(seconds_per_picture=0.25) as pool:
        bad, good = pool.submit(given(large, PICTURES["PNG"])).result()
        assert isinstance(good, Picture)
        assert isinstance(bad, PictureError)
        assert (bad.code, "0.25 s" in str(bad)) == ("image-too-slow", True)


def test_a_picture_whose_decoder_got_no_processor_is_tried_again(large: bytes) -> None:
    with a_pool(seconds_per_picture=5) as pool:
        pool.submit(given(PICTURES["PNG"])).result()
        pending = pool.submit(given(large))
        stopped = kill_when_busy(pool, signal.SIGSTOP)
        assert isinstance(pending.result()[0], Picture)
        assert not is_alive(stopped)


def test_twenty_crashes_leave_no_descriptor_thread_or_zombie() -> None:
    with a_pool() as pool:

        def crash() -> bytes:
            os.kill(pool.pids()[0], signal.SIGSEGV)
            return PICTURES["PNG"]

        pool.submit(given(PICTURES["PNG"])).result()
        before = (open_descriptors(), threading.active_count(), len(children()))
        found = pool.submit([crash] * 20).result()
        assert all(isinstance(each, Picture) for each in found)
        pool.submit(given(PICTURES["PNG"])).result()
        until = time.monotonic() + 10
        while not pool.pids() and time.monotonic() < until:
            time.sleep(0.01)
        after = (open_descriptors(), threading.active_count(), len(children()))
        assert after == before


def open_descriptors() -> int:
    return psutil.Process().num_fds()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_closing_ends_what_is_waiting_and_every_process(large: bytes) -> None:
    before = open_descriptors()
    pool = a_pool(processes=2)
    pending = pool.submit(given(*[large] * 12))
    kill_when_busy(pool, signal.SIGCONT)
    pids = pool.pids()
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    assert any(isinstance(found, DecodingStoppedError) for found in pending.result())
    assert not any(isinstance(found, PictureError) for found in pending.result())
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert open_descriptors() == before
    with pytest.raises(DecodingStoppedError):
        pool.submit(given(PICTURES["PNG"]))


def test_pictures_called_back_are_not_begun() -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait() -> bytes:
        begun.set()
        gate.wait(30)
        return PICTURES["PNG"]

    with a_pool() as pool:
        pending = pool.submit([wait, *given(PICTURES["PNG"])])
        assert begun.wait(30)
        pending.cancel()
        gate.set()
        assert [type(found) for found in pending.result()] == [Picture, DecodingStoppedError]


def test_a_fault_of_the_store_is_no_picture_s(pool: DecodePool) -> None:
    def fail() -> bytes:
        raise OSError(5, "the disk is dying")

    fault, good = pool.submit([fail, *given(PICTURES["PNG"])]).result()
    assert isinstance(fault, OSError)
    assert isinstance(good, Picture)


def test_items_are_decoded_or_failed_and_the_next_batch_while_one_is_used(
    pool: DecodePool, blobs: BlobStore, picture: bytes
) -> None:
    good, bad = blobs.put(TENANT, picture), blobs.put(TENANT, b"a text")
    items = [{"index": index, "sha256": sha} for index, sha in enumerate((good, bad, "0" * 64, good))]
    ahead = start_decoding(pool, blobs, TENANT, items[:2])
    decoded, failed = start_decoding(pool, blobs, TENANT, items, thumbnails=True).result()
    assert [found.item["index"] for found in decoded] == [0, 3]
    assert [(result.item["index"], result.error["code"]) for result in failed if result.error] == [
        (1, "not-an-image"),
        (2, "blob-missing"),
    ]
    assert not any(result.error["retryable"] for result in failed if result.error)
    assert decoded[0].thumbnail is not None
    assert [len(part) for part in ahead.result()] == [1, 1]


def test_limits_are_the_operators(pool: DecodePool) -> None:
    with a_pool(limits=Limits(pixels=100)) as strict:
        (found,) = strict.submit(given(PICTURES["PNG"])).result()
    assert isinstance(found, PictureError)
    assert found.code == "image-too-large"
