"""Keep a small copy of a picture, so that nothing is ever drawn on an upload itself."""

import io
from typing import Final

from PIL import Image

from pictures.errors import ImageTooLargeError, ImageTruncatedError, ImageUnreadableError, NotAnImageError
from pictures.heatmap import display_size, resize
from pictures.sniff import ends_early, sniff

THUMBNAIL_SIDE: Final = 512
_QUALITY: Final = 90
_FULL_COLOUR: Final = 0  # Pillow's number for 4:4:4
_LONGEST_SIDE: Final = 2048


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of the upright RGB `image`, its longer side at most `side` pixels.

    The aspect is kept as far as whole pixels allow, at least one each way; small pictures keep their size.
    Metadata of the original (place, camera, comments, profile) does not come along. Colours are stored at
    full resolution: small red shapes do not survive 4:2:0.
    """
    size = image.size if max(image.size) <= side else display_size(*image.size, side)
    buffer = io.BytesIO()
    # Never `optimize`: Pillow then wants the whole file in one buffer, and fails on noise at 4:4:4.
    resize(image, size).save(buffer, "JPEG", quality=_QUALITY, subsampling=_FULL_COLOUR)
    return buffer.getvalue()


def open_thumbnail(data: bytes) -> Image.Image:
    """The RGB picture of a stored thumbnail; only what `thumbnail` writes is opened.

    Raises:
        NotAnImageError: no JPEG.
        ImageTooLargeError: a side longer than any thumbnail's, before a pixel is decoded.
        ImageTruncatedError, ImageUnreadableError: the stored bytes are torn or damaged.
    """
    if sniff(data) != "image/jpeg":
        raise NotAnImageError("A thumbnail is a JPEG.")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) > _LONGEST_SIDE:
                raise ImageTooLargeError(f"A thumbnail's side is at most {_LONGEST_SIDE} pixels.")
            if image.mode != "RGB":
                raise ImageUnreadableError(f"A thumbnail is RGB, not {image.mode}.")
            image.load()
            opened = image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        if ends_early(data, "image/jpeg"):
            raise ImageTruncatedError(str(fault)) from fault
        raise ImageUnreadableError(str(fault)) from fault
    opened.info.clear()
    return opened
