"""Judge a picture by its bytes alone: what it claims to be, and whether its end is there."""

from pictures.errors import ImageEmptyError, ImageTooLargeError, ImageTruncatedError, NotAnImageError
from pictures.sniff import ends_early, sniff


def inspect(data: bytes, limit_bytes: int) -> str:
    """The media type of a whole picture; nothing is decoded.

    Raises:
        ImageEmptyError, ImageTooLargeError, NotAnImageError, ImageTruncatedError: it cannot be taken.
    """
    if not data:
        raise ImageEmptyError
    if len(data) > limit_bytes:
        raise ImageTooLargeError(f"It has {len(data)} bytes, the limit is {limit_bytes}.")
    media_type = sniff(data)
    if media_type is None:
        raise NotAnImageError
    if ends_early(data, media_type):
        raise ImageTruncatedError
    return media_type
