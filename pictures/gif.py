"""Step over the blocks of a GIF without decoding one (GIF89a specification, appendix A)."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

_HEADER_BYTES: Final = 13
_TABLE_FLAG: Final = 0x80


class Block(IntEnum):
    """What a walk comes by."""

    EXTENSION = 0x21
    PICTURE = 0x2C
    TRAILER = 0x3B
    UNREAD = -1
    """The steps are used up: what follows is not known."""


def walk(data: bytes, steps: int) -> Iterator[Block]:
    """Its blocks in order, up to the trailer, the end of the data, or what is no block.

    Each sub-block is a step: many small ones would cost seconds.
    """
    if len(data) < _HEADER_BYTES:
        return
    offset = _HEADER_BYTES + _colour_table_bytes(data[10])
    in_block: Block | None = None
    for _ in range(steps):
        if offset >= len(data):
            return
        introducer = data[offset]
        if in_block is not None:
            offset += 1 + introducer
            if introducer == 0:
                yield in_block
                in_block = None
        elif introducer == Block.TRAILER:
            yield Block.TRAILER
            return
        elif introducer == Block.EXTENSION:
            offset, in_block = offset + 2, Block.EXTENSION
        elif introducer == Block.PICTURE and offset + 9 < len(data):
            offset, in_block = offset + 11 + _colour_table_bytes(data[offset + 9]), Block.PICTURE
        else:
            return
    yield Block.UNREAD


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & _TABLE_FLAG else 0
