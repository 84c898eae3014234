"""Decoding in confined processes: the same pixels, and no picture that harms another or the worker."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
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
from tests.ledger import TENANT
from tests.processes import is_alive
from worker.decode_pool import DecodePool
from worker.decoding import decode_items, start_decoding
from worker.decoding_process import Picture
from worker.feeding import DecodingStoppedError

SIDE = 48
BICUBIC = 3
GENEROUS = 60.0
ROOMY = 1 << 30
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to


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


def noise(size: tuple[int, int] = (70, 50), mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def wide_grey() -> Image.Image:
    return Image.fromarray(np.arange(70 * 50, dtype=np.uint16).reshape(50, 70) * 18)


def png_of_size(width: int, height: int, rows: int = 0) -> bytes:
    """A PNG whose header claims a size; only so many black rows follow."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(rows * (3 * width + 1)) or bytes(100), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def large() -> bytes:
    """63 million pixels: a second of work, 253 MB in Pillow, a few hundred kB as sent."""
    return png_of_size(7950, 7950, rows=7950)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description, \u00fc"
    return exif.tobytes()


PICTURES = {
    "JPEG": encode(noise(), "JPEG"),
    "JPEG, turned, progressive": encode(noise(), "JPEG", exif=turned(), progressive=True, dpi=(72, 72)),
    "JPEG, CMYK": encode(noise(mode="CMYK"), "JPEG"),
    "JPEG of several frames": encode(noise(), "MPO", save_all=True, append_images=[noise()]),
    "PNG": encode(noise(), "PNG"),
    "PNG, alpha": encode(noise(mode="RGBA"), "PNG"),
    "PNG, palette": encode(noise(mode="P"), "PNG", transparency=b"\x00\x80"),
    "PNG, 16 bit": encode(wide_grey(), "PNG"),
    "PNG, turned": encode(noise(), "PNG", exif=turned()),
    "WebP": encode(noise(), "WEBP"),
    "WebP, large enough for threads": encode(noise((900, 700)), "WEBP", exif=turned()),
    "GIF of several frames": encode(noise(), "GIF", save_all=True, append_images=[noise(mode="L")]),
    "BMP": encode(noise(), "BMP"),
    "TIFF": encode(noise(), "TIFF"),
    "TIFF, deflate": encode(noise(), "TIFF", compression="tiff_deflate"),
    "TIFF, JPEG inside": encode(noise(), "TIFF", compression="jpeg"),
    "TIFF, LZW, LAB": encode(noise(), "TIFF", compression="tiff_lzw", description="\u00e4"),
    "TIFF, floats": encode(noise(mode="F"), "TIFF"),
    "AVIF": encode(noise((400, 300)), "AVIF"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_decoder_reads_what_this_process_would(pool: DecodePool, name: str) -> None:
    data = PICTURES[name]
    (found,) = pool.submit(given(data), thumbnails=True).result()
    image = decode(data)
    assert isinstance(found, Picture), found
    assert (found.width, found.height) == image.size
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


def test_handing_in_waits_while_too_many_wait() -> None:
    gate = threading.Event()

    def wait() -> bytes:
        gate.wait(30)
        return PICTURES["PNG"]

    with a_pool(most_waiting=2) as pool:
        pool.submit([wait, wait, wait])
        second: list[list[Picture | Exception]] = []
        other = threading.Thread(target=lambda: second.append(pool.submit([wait]).result()))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        gate.set()
        other.join(30)
        assert isinstance(second[0][0], Picture)


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
    decoded, failed = decode_items(pool, blobs, TENANT, items, thumbnails=True)
    assert [found.item["index"] for found in decoded] == [0, 3]
    assert [(result.item["index"], result.error["code"]) for result in failed if result.error] == [
        (1, "not-an-image"),
        (2, "blob-missing"),
    ]
    assert not any(result.error["retryable"] for result in failed if result.error)
    assert decoded[0].thumbnail is not None
    assert [len(part) for part in ahead.result()] == [1, 1]


WORKER = """
import sys, time
from worker.decode_pool import DecodePool
pool = DecodePool(48, 3, processes=2, seconds_per_picture=60, memory_bytes=1 << 30)
large = sys.stdin.buffer.read()
pool.submit([lambda: large] * 50)
while len(pool.pids()) < 2:
    time.sleep(0.01)
print(pool.pids(), flush=True)
time.sleep(60)
"""


def test_no_decoder_outlives_a_worker_that_was_killed(large: bytes) -> None:
    shared = set(SHARED_MEMORY.iterdir())
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=-1, stdout=-1) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(large)
        worker.stdin.close()
        pids = json.loads(worker.stdout.readline())
        assert all(is_alive(pid) for pid in pids)
        if os.geteuid() == 0:
            assert {psutil.Process(pid).uids().effective for pid in pids} == {65534}
        worker.kill()
        until = time.monotonic() + 5
        while any(is_alive(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(is_alive(pid) for pid in pids)
    assert set(SHARED_MEMORY.iterdir()) <= shared


def test_a_decoder_has_imported_whatever_a_picture_may_call_for(tmp_path: Path) -> None:
    for name, data in PICTURES.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}, torn").write_bytes(data[: len(data) // 2])
    done = subprocess.run(
        [sys.executable, "-c", LATE_IMPORTS, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


LATE_IMPORTS = """
import io, pathlib, sys
from worker.decoder import preload, serve
from worker.frames import Order
pictures = [path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()]
order = Order(48, 3, 1 << 24, 1 << 24, 0, 0, 0, 0)
preload()
before = set(sys.modules)
for data in pictures:
    serve(io.BytesIO(), data, bytearray(order.slot_bytes), order, wants_thumbnail=True)
print(set(sys.modules) - before)
"""


def test_a_decoder_never_imports_the_model() -> None:
    code = "import sys, worker.decoder; print({'torch', 'celery', 'sqlalchemy', 'jobs'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


UNCONFINED = """
import ctypes, os
from worker import syscalls
from worker.decode_pool import DecodePool
machine = syscalls._MACHINES[os.uname().machine]
steps = [(32, 0, 0, 0), (21, machine.seccomp, 0, 1), (6, syscalls._REFUSE, 0, 0), (6, syscalls._ALLOW, 0, 0)]
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
syscalls._install(machine, b"".join(syscalls._step(*step) for step in steps))
data = open("demo/samples/images/scene-00000.jpg", "rb").read()
with DecodePool(48, 3, processes=2, seconds_per_picture=60, memory_bytes=1 << 30) as pool:
    print([found.width for found in pool.submit([lambda: data] * 20).result()] == [320] * 20)
"""


def test_a_kernel_without_filters_is_told_of_once_and_decoding_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCONFINED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "True"
    assert (done.stdout + done.stderr).count("decoder.unconfined") == 1


def test_limits_are_the_operators(pool: DecodePool) -> None:
    with a_pool(limits=Limits(pixels=100)) as strict:
        (found,) = strict.submit(given(PICTURES["PNG"])).result()
    assert isinstance(found, PictureError)
    assert found.code == "image-too-large"
