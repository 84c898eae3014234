"""Look at the bytes of an upload without decoding them."""

from collections.abc import Callable
from typing import Final

from pictures import gif
from pictures.errors import ImageEmptyError, ImageTooLargeError, ImageTruncatedError, NotAnImageError
from pictures.sniff import ends_early, sniff

_MARKER: Final = 0xFF
_START_OF_SCAN: Final = 0xDA
_UNCOMPRESSED: Final = 0


MAX_STEPS: Final = 200_000
"""Blocks that are stepped over: more than a common picture has, and a slow one would cost seconds.

Of a file with more, the decoder finds out whether it ends.
"""


def inspect(data: bytes, limit_bytes: int) -> str:
    """The media type of an upload, by its bytes alone.

    A promise about its outside only: what is inside, the decoder finds out. Bytes behind the picture's end
    are allowed, phones put films there.

    Raises:
        ImageEmptyError: no bytes.
        ImageTooLargeError: more than `limit_bytes`.
        NotAnImageError: the header is none of the supported formats'.
        ImageTruncatedError: the container says that its end is missing.
    """
    if not data:
        raise ImageEmptyError
    if len(data) > limit_bytes:
        raise ImageTooLargeError(f"It has {len(data)} bytes, the limit is {limit_bytes}.")
    media_type = sniff(data)
    if media_type is None:
        raise NotAnImageError
    # `ends_early` reads the last bytes only: there, a file with something behind its picture looks torn.
    has_end = _HAS_END.get(media_type)
    if ends_early(data, media_type) and not (has_end is not None and has_end(data)):
        raise ImageTruncatedError
    return media_type


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end marker follows the first scan.

    The segments before it are stepped over by their lengths (ITU-T T.81, B.1.1.4), because an EXIF thumbnail
    is a whole JPEG with an end of its own. Within a scan, 0xFF 0xD9 is nothing but the end.
    """
    offset = 2
    for _ in range(MAX_STEPS):
        if offset + 4 > len(data) or data[offset] != _MARKER:
            return False
        marker = data[offset + 1]
        if marker == _MARKER:  # a fill byte before a marker
            offset += 1
            continue
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker == _START_OF_SCAN:
            return data.find(b"\xff\xd9", offset) >= 0
    return True


def _gif_has_end(data: bytes) -> bool:
    """Whether the trailer is reached, block by block."""
    last = None
    for block in gif.walk(data, MAX_STEPS):
        last = block
    return last in (gif.Block.TRAILER, gif.Block.UNREAD)


def _bitmap_has_end(data: bytes) -> bool:
    """Whether all rows of a plain bitmap are there, whatever its size field claims (writers get it wrong)."""
    header = int.from_bytes(data[14:18], "little")
    if header == 12:  # noqa: PLR2004 - the oldest header, with sizes of two bytes
        width, height = (int.from_bytes(data[at : at + 2], "little") for at in (18, 20))
        bits, compression = int.from_bytes(data[24:26], "little"), _UNCOMPRESSED
    else:
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        bits = int.from_bytes(data[28:30], "little")
        compression = int.from_bytes(data[30:34], "little")
    if compression != _UNCOMPRESSED:
        return False
    row_bytes = (width * bits + 31) // 32 * 4
    return len(data) >= int.from_bytes(data[10:14], "little") + row_bytes * abs(height)


_HAS_END: Final[dict[str, Callable[[bytes], bool]]] = {
    "image/jpeg": _jpeg_has_end,
    "image/png": lambda data: b"\x00\x00\x00\x00IEND\xaeB`\x82" in data,
    "image/gif": _gif_has_end,
    "image/bmp": _bitmap_has_end,
}
