"""Decoders as processes: what they import, what they outlive, and what they are without a filter."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.encoded import PICTURES, png_of_size
from tests.processes import is_alive

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to


@pytest.fixture(scope="module")
def large() -> bytes:
    """63 million pixels: a second of work, 253 MB in Pillow, a few hundred kB as sent."""
    return png_of_size(7950, 7950, rows=7950)


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
order = Order(48, 3, 1 << 24, 1 << 24, 100, 0, 0, 0, 0)
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
