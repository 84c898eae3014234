"""What passes between a worker and its decoder: fixed heads, each followed by so many bytes."""

import os
import struct
import sys
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

REQUEST: Final = struct.Struct("!??I")
"""Whether a thumbnail is wanted, whether a draft will do, and how many bytes of a picture follow."""
ANSWER: Final = struct.Struct("!BIIII")
"""What it is, width, height, how many frames there are (0 where nobody knows), and how many bytes follow."""

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""No thumbnail and no message is longer; a decoder that was taken over may claim anything."""
MAX_MESSAGE: Final = 500


class Kind(IntEnum):
    """What an answer says; the bytes that follow it."""

    READY = 0
    """Confined and waiting; names of what could not be given up, by spaces."""
    DECODED = 1
    """The pixels are in the slot; the thumbnail, or nothing."""
    REFUSED = 2
    """The picture cannot be used; its code, a line end, and the message."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a decoder is to work, given to it as JSON; `slot` is the descriptor of the shared memory.

    The slot holds RGB bytes [3, side, side]: plane by plane, as the engine reads them.
    """

    side: int
    resample: int
    image_bytes: int
    pixels: int
    frames: int
    memory_bytes: int
    cpu_seconds: int
    parent: int
    slot: int

    @property
    def slot_bytes(self) -> int:
        """The size of the shared memory."""
        return slot_bytes(self.side)


def slot_bytes(side: int) -> int:
    """The size of one squashed picture."""
    return 3 * side * side


def make_slot(side: int) -> int:
    """The descriptor of zeroed memory without a name: nothing is left of it when its processes are gone."""
    size = slot_bytes(side)
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    import fcntl  # noqa: PLC0415 - its seals exist on Linux only

    descriptor = os.memfd_create("lensqueue-slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # a decoder that was taken over could otherwise shorten it, and the worker die of reading it
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
