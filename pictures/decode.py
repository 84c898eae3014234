"""Turn untrusted bytes into a checked RGB picture."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image, UnidentifiedImageError, features

from pictures.convert import to_rgb
from pictures.errors import (
    ImageEmptyError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnreadableError,
    NotAnImageError,
)
from pictures.sniff import MEDIA_TYPES, ends_early, sniff

MEBIBYTE: Final = 1024 * 1024

# Pillow's plugins raise more than their documentation lists; what is not in here is a fault of ours.
_DECODER_FAULTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost: `image_bytes` as sent, `pixels` as width x height, checked before decoding."""

    image_bytes: int = 32 * MEBIBYTE
    pixels: int = 64_000_000


DEFAULT_LIMITS: Final = Limits()


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame as an upright RGB picture.

    Palette, grey, CMYK and alpha become RGB (alpha is dropped, see `pictures.convert.to_rgb`), wide integer
    grey is scaled. Byte and pixel limits are checked before a pixel is decoded.

    Raises:
        ImageEmptyError: no bytes.
        ImageTooLargeError: more bytes or pixels than `limits`, or than Pillow's own guard allows.
        NotAnImageError: the header is none of the supported formats'.
        ImageTruncatedError: the file is torn.
        ImageUnreadableError: anything else a decoder stumbles over.
    """
    if not data:
        raise ImageEmptyError
    if len(data) > limits.image_bytes:
        raise ImageTooLargeError(f"It has {len(data)} bytes, the limit is {limits.image_bytes}.")
    media_type = sniff(data)
    if media_type is None:
        raise NotAnImageError
    if media_type == "image/avif" and not features.check("avif"):
        raise NotAnImageError("This installation's Pillow was built without AVIF.")
    try:
        with Image.open(io.BytesIO(data), formats=(MEDIA_TYPES[media_type],)) as image:
            _check_pixels(image, limits)
            image.load()
            return to_rgb(image)
    except _BOMBS as bomb:
        # Pillow looks before this does, and names a bound of its own
        raise ImageTooLargeError(f"It has more pixels than the limit of {_most_pixels(limits)}.") from bomb
    except UnidentifiedImageError as fault:
        # The header was right, so the rest is either missing or damaged.
        if ends_early(data, media_type):
            raise ImageTruncatedError from fault
        raise ImageUnreadableError(f"Its header says {media_type}.") from fault
    except _DECODER_FAULTS as fault:
        if "truncated" in str(fault).lower() or isinstance(fault, EOFError) or ends_early(data, media_type):
            raise ImageTruncatedError from fault
        raise ImageUnreadableError(f"{media_type}: {fault}") from fault


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    most = _most_pixels(limits)
    width, height = image.size
    if width * height > most:
        raise ImageTooLargeError(f"It has {width} x {height} pixels, the limit is {most}.")


def _most_pixels(limits: Limits) -> int:
    # Pillow only warns between one and two times its own guard; a warning is an error here
    return min(limits.pixels, Image.MAX_IMAGE_PIXELS or limits.pixels)
