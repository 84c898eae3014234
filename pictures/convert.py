"""Bring any Pillow picture to upright 8-bit RGB, and to the square a checkpoint reads."""

import struct
from typing import Final

from PIL import ExifTags, Image

_WIDE_GREY: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_BIT_MAX: Final = 65535
_SIDEWAYS: Final = range(5, 9)
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation (EXIF 2.32, table 4)."""
_ORIENTING: Final = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow reads an orientation from."""
_EXIF_FAULTS: Final = (
    KeyError,
    OSError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    ZeroDivisionError,
    struct.error,
)


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, turned upright by its EXIF orientation.

    The argument is not changed; where it is upright RGB already, it is what is returned.

    Alpha is dropped, not composited: that is what Pillow's `convert("RGB")` does, and with it the reference
    preprocessing of SigLIP. Grey of 16 or 32 bits and floats are scaled to 0..255 (Pillow's own conversion
    clips, which turns most of a 16-bit picture white).

    Raises:
        ValueError: Pillow knows no way from this mode to RGB.
        OSError: a picture that was opened and not loaded cannot be.
    """
    image = _upright(image)
    if image.mode in _WIDE_GREY:
        image = _scale_integers(image)
    elif image.mode == "F":
        image = _scale_floats(image)
    elif image.mode == "P" and "transparency" in image.info:
        # Straight to RGB warns and lets a transparency table of bytes decide; by way of RGBA it cannot.
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB") if image.mode != "RGB" else image


def squash(image: Image.Image, side: int, resample: int) -> Image.Image:
    """The RGB picture resized to side x side pixels without keeping its aspect, as SigLIP was trained.

    `resample` is Pillow's number of the filter, from the checkpoint's preprocessor config. Pillow's filters
    widen when they shrink (antialias), the checkpoint's reference does the same.
    """
    return image.resize((side, side), resample=Image.Resampling(resample))


def lies_sideways(image: Image.Image) -> bool:
    """Whether the width of a loaded picture is the height of the upright one."""
    return _orientation(image) in _SIDEWAYS


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for name in _ORIENTING:
        # it must not be turned again
        turned.info.pop(name, None)
    return turned


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _EXIF_FAULTS:
        # A damaged EXIF block says nothing about orientation; the pixels are still good.
        return 1


def _scale_integers(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits to 8: 65535 -> 255; values beyond 16 bits by the picture's own range."""
    low, high = _extrema(image)
    if low >= 0 and high <= _SIXTEEN_BIT_MAX:
        return _stretch(image, 0.0, float(_SIXTEEN_BIT_MAX))
    return _stretch(image, low, high)


def _scale_floats(image: Image.Image) -> Image.Image:
    """Float grey to 8 bits: 0..1 and 0..255 as those scales, anything else by the picture's own range."""
    low, high = _extrema(image)
    if low >= 0.0 and high <= 1.0:
        return _stretch(image, 0.0, 1.0)
    if low >= 0.0 and high <= 255.0:  # noqa: PLR2004 - the 8-bit range
        return _stretch(image, 0.0, 255.0)
    return _stretch(image, low, high)


def _extrema(image: Image.Image) -> tuple[float, float]:
    # Pillow computes extrema of a big-endian or native 16-bit picture only through its integer mode.
    plain = image if image.mode in ("I", "F") else image.convert("I")
    low, high = plain.getextrema()
    return float(low), float(high)  # type: ignore[arg-type]  # one band gives numbers, not pairs


def _stretch(image: Image.Image, low: float, high: float) -> Image.Image:
    factor = 255.0 / (high - low) if high > low else 0.0
    # Pillow truncates from float to 8 bits, hence the half.
    floats = image.convert("I").convert("F") if image.mode not in ("I", "F") else image.convert("F")
    return floats.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")
