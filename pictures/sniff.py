"""Tell a picture's media type from its first bytes, and whether its end is missing."""

from collections.abc import Callable
from typing import Final

MEDIA_TYPES: Final = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
"""The allow-list: media type -> Pillow's name of the format. Nothing else is ever handed to a decoder."""

_PREFIXES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
)
_AVIF_BRANDS: Final = (b"avif", b"avis")
_MAX_BOXES: Final = 10_000
_BMP_HEADER_BYTES: Final = (12, 40, 52, 56, 64, 108, 124)


def sniff(data: bytes) -> str | None:
    """The media type that the header claims, or None when it is none of the supported ones.

    Reads at most the first 64 bytes and decodes nothing: a claim, not a proof.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _AVIF_BRANDS):
        return "image/avif"
    for prefix, media_type in _PREFIXES:
        if data.startswith(prefix):
            # Two letters are too little to tell a bitmap from a text that begins with "BM".
            if media_type == "image/bmp" and not _is_bitmap(data):
                return None
            return media_type
    return None


def ends_early(data: bytes, media_type: str) -> bool:
    """Whether the container itself says that bytes are missing from the end.

    Used only after a decoder has refused the bytes, to tell a torn file from a damaged one.
    """
    is_torn = _TORN.get(media_type)
    return is_torn is not None and is_torn(data)


def _is_bitmap(data: bytes) -> bool:
    return int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES


def _boxes_overrun(data: bytes) -> bool:
    """Whether a top-level ISO BMFF box (ISO/IEC 14496-12, 4.2) claims bytes beyond the end."""
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset + 8 > len(data):
            return offset != len(data)
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size == 0:
            return False
        if size < 8:  # noqa: PLR2004 - a box is at least its own header
            return False
        offset += size
    return False


_TORN: Final[dict[str, Callable[[bytes], bool]]] = {
    "image/jpeg": lambda data: b"\xff\xd9" not in data[-64:],
    "image/png": lambda data: b"IEND" not in data[-16:],
    "image/webp": lambda data: len(data) < int.from_bytes(data[4:8], "little") + 8,
    "image/gif": lambda data: not data.rstrip(b"\x00").endswith(b";"),
    "image/bmp": lambda data: len(data) < int.from_bytes(data[2:6], "little"),
    "image/avif": _boxes_overrun,
}
