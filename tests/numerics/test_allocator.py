"""Large blocks of memory go back when they are freed, whatever was freed before."""

import os
import subprocess
import sys

MAPPED = """
import ctypes, sys, torch
from engine.allocator import give_back_large_blocks
class Told(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]
told = ctypes.CDLL(None).mallinfo2
told.restype = Told
if sys.argv[1] == "ours":
    give_back_large_blocks()
torch.empty(16 * 2**20, dtype=torch.uint8)
before = told().hblkhd
kept = torch.empty(4 * 2**20, dtype=torch.uint8)
print(told().hblkhd - before)
"""


def _mapped_bytes(whose: str, **environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_MMAP_THRESHOLD_"}
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, whose],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_a_large_block_is_mapped_by_itself_even_after_a_larger_one_was_freed() -> None:
    assert _mapped_bytes("ours") >= 4 * 2**20
    # by itself the C library keeps it in the heap: the reason why the engine asks for more
    assert _mapped_bytes("the C library's") == 0


def test_an_operators_own_threshold_stays() -> None:
    assert _mapped_bytes("ours", MALLOC_MMAP_THRESHOLD_=str(32 * 2**20)) == 0
