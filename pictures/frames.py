"""Count the frames of a picture without decoding one: only the first is ever read, and that is said."""

from typing import Final, Literal

from PIL import Image

from pictures import gif

MAX_STEPS: Final = 200_000
"""Blocks of a GIF that are stepped over: beyond, a count would cost more than the first frame does."""
_BIG_TIFF: Final = 43


def count_frames(image: Image.Image, data: bytes, most: int) -> int | None:
    """How many frames or pages an opened picture has, `most` + 1 for all beyond; None if nobody can tell.

    PNG, WebP, AVIF and MPO say it in what Pillow read on opening. Of a GIF or a TIFF Pillow would read every
    frame's description; here they are stepped over, in time that is bounded by `most` and `MAX_STEPS`.
    """
    if image.format == "GIF":
        return gif_frames(data, most)
    if image.format == "TIFF":
        return tiff_pages(data, most)
    return min(int(getattr(image, "n_frames", 1)), most + 1)


def gif_frames(data: bytes, most: int) -> int | None:
    """The pictures of a GIF; one that is torn counts as far as it goes."""
    frames = 0
    for block in gif.walk(data, MAX_STEPS):
        if block is gif.Block.UNREAD:
            return None
        frames += block is gif.Block.PICTURE
        if frames > most:
            break
    return max(frames, 1)


def tiff_pages(data: bytes, most: int) -> int:
    """The directories of a TIFF, by the link behind each (TIFF 6.0, section 2; BigTIFF).

    A chain that runs in a circle or out of the file ends there.
    """
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    is_big = int.from_bytes(data[2:4], order) == _BIG_TIFF
    # bytes of a link, of the number of entries, of an entry
    link, number, entry = (8, 8, 20) if is_big else (4, 2, 12)
    offset = int.from_bytes(data[8:16] if is_big else data[4:8], order)
    seen: set[int] = set()
    while 0 < offset < len(data) and offset not in seen and len(seen) <= most:
        seen.add(offset)
        entries = int.from_bytes(data[offset : offset + number], order)
        behind = offset + number + entries * entry
        offset = int.from_bytes(data[behind : behind + link], order)
    return max(len(seen), 1)
