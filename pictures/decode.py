"""Turn untrusted bytes into a checked RGB picture."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image, UnidentifiedImageError, features

from pictures.convert import lies_sideways, to_rgb
from pictures.errors import (
    ImageEmptyError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnreadableError,
    NotAnImageError,
)
from pictures.frames import count_frames
from pictures.jpeg import load_jpeg
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
_LEAST_DRAFT: Final = 384
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost, checked before a pixel is decoded.

    `image_bytes` as sent, `pixels` as width x height, `frames` of an animation or pages of a TIFF: only the
    first is decoded, but a file that holds so many is none that anybody meant to show.
    """

    image_bytes: int = 32 * MEBIBYTE
    pixels: int = 64_000_000
    frames: int = 10_000


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first frame as an upright RGB picture.

    `width` and `height` are those of the upright original, also where a draft is smaller; `frames` is how
    many there are, None where that cannot be told in bounded time.
    """

    image: Image.Image
    width: int
    height: int
    frames: int | None


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame as an upright RGB picture, exactly; see `read`."""
    return read(data, limits).image


def read(data: bytes, limits: Limits = DEFAULT_LIMITS, *, draft_side: int | None = None) -> Decoded:
    """The first frame, how large it is, and how many there are.

    Palette, grey, CMYK and alpha become RGB (alpha is dropped, see `pictures.convert.to_rgb`), wide integer
    grey is scaled. With `draft_side` a JPEG is decoded at a half, a quarter or an eighth of its size, where
    both sides remain at least so long: several times faster, and not the same pixels.

    Raises:
        ImageEmptyError: no bytes.
        ImageTooLargeError: more bytes, pixels or frames than `limits`, or than Pillow's own guard allows.
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
        return _read(data, media_type, limits, draft_side)
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


def side_of_draft(side: int) -> int:
    """The `draft_side` of `read` for a checkpoint's square: twice its side, since a draft is squashed again.

    Never so small that a thumbnail of the draft would not be worth looking at; with a thumbnail or without,
    the draft is the same.
    """
    return max(2 * side, _LEAST_DRAFT)


def _read(data: bytes, media_type: str, limits: Limits, draft_side: int | None) -> Decoded:
    with Image.open(io.BytesIO(data), formats=(MEDIA_TYPES[media_type],)) as image:
        _check_pixels(image, limits)
        frames = _count_frames(image, data, limits)
        size = image.size
        if draft_side is not None:
            image.draft(None, (draft_side, draft_side))
        if image.size == size:
            upright = to_rgb(load_jpeg(image, data) or image)
            return Decoded(upright, *upright.size, frames)
        upright = to_rgb(image)
        width, height = size[::-1] if lies_sideways(image) else size
        return Decoded(upright, width, height, frames)


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    most = _most_pixels(limits)
    width, height = image.size
    if width * height > most:
        raise ImageTooLargeError(f"It has {width} x {height} pixels, the limit is {most}.")


def _count_frames(image: Image.Image, data: bytes, limits: Limits) -> int | None:
    frames = count_frames(image, data, limits.frames)
    if frames is not None and frames > limits.frames:
        raise ImageTooLargeError(f"It has more than {limits.frames} frames.")
    return frames


def _most_pixels(limits: Limits) -> int:
    # Pillow only warns between one and two times its own guard; a warning is an error here
    return min(limits.pixels, Image.MAX_IMAGE_PIXELS or limits.pixels)
