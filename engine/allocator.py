"""The C library's memory: large blocks are given back when they are freed, or memory grows with a list."""

import ctypes
import os
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""malloc.h's number of it, the same on every platform of glibc."""
_LARGE_BYTES: Final = 2**20


def give_back_large_blocks() -> None:
    """Let blocks of a mebibyte and more be mapped one by one, and unmapped when they are freed.

    glibc raises that bound, up to 32 MiB, once a larger block was freed: hidden states then lie in the heap,
    where the few numbers that are kept of every batch stand in the way of the next. Over a thousand pictures
    memory doubled. mallopt(3); an operator's MALLOC_MMAP_THRESHOLD_ stays, and other C libraries have none.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
