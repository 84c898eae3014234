"""Files that look like pictures and are none, each in its own way, with the code that says so."""

import io
import struct
import zlib
from collections.abc import Mapping
from itertools import cycle
from typing import Final

from PIL import Image


def _jpeg() -> bytes:
    made = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(made, "JPEG")
    return made.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(pixels))
        + _chunk(b"IEND", b"")
    )


EVERY: Final = 49
KINDS: Final = (
    ("torn.jpg", _jpeg()[:500], "image-truncated"),
    ("text.jpg", b"Dear all,\nthe pictures are in the other folder.\n", "not-an-image"),
    ("empty.jpg", b"", "image-empty"),
    ("bomb.png", _png(60_000, b""), "image-too-large"),
    ("magic.jpg", b"\xff\xd8" + bytes(300), "not-an-image"),
    ("hollow.png", _png(64, b"\x00" * 10), "image-truncated"),
)
ONLY_INSIDE: Final = ("bomb.png", "hollow.png")
"""Of these, files that look like pictures from outside: what they are is found where they are decoded."""


def with_broken(pictures: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files of which 2 % are broken, all kinds in turn among the pictures; and what is wrong with those."""
    files, codes = {}, {}
    kinds = cycle(KINDS)
    for place, (name, data) in enumerate(pictures.items()):
        files[name] = data
        if place % EVERY == EVERY // 2:
            kind, torn, code = next(kinds)
            files[f"{place}-{kind}"], codes[f"{place}-{kind}"] = torn, code
    return files, codes
