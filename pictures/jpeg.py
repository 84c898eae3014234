"""The short way from a JPEG's bytes to its pixels: Pillow's very bits, without Pillow's copies.

Pillow reads the header, libjpeg-turbo decodes (by simplejpeg) into memory laid out as Pillow's, and Pillow
takes that memory as a picture. What libjpeg so much as warns of is left to Pillow, and so is its verdict.
"""

import io
from functools import cache
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

_LAYERS: Final = (1, 3)
_SAMPLINGS: Final = ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1))
"""Of the first layer (across, down), over layers of (1, 1): 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1."""
_MARKER: Final = 0xFF
_FRAMES: Final = (0xC0, 0xC1, 0xC2)
"""Starts of a frame: baseline, extended, progressive; Huffman-coded all (ITU-T T.81, table B.1)."""
_OTHER_FRAMES: Final = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN: Final = 0xDA
_MAX_SEGMENTS: Final = 10_000
_PROBE: Final = (37, 29)


def load_jpeg(image: Image.Image, data: bytes) -> Image.Image | None:
    """The pixels of a JPEG that Pillow has opened and not loaded, in mode RGB and with its `info`.

    None where this way is not known to give the bits of `image.load()` and `image.convert("RGB")`: other
    than 8-bit grey, YCbCr or RGB of a usual subsampling; a file that is torn, damaged, or merely odd.

    Raises:
        MemoryError: there is no room for width x height x 4 bytes.
    """
    if not isinstance(image, JpegImageFile) or not _is_plain(image, data) or not is_exact():
        return None
    width, height = image.size
    pixels = np.empty((height, width, 4), dtype=np.uint8)
    if not _decode_into(pixels, data):
        return None
    picture = _share(pixels)
    picture.info = dict(image.info)
    return picture


@cache
def is_exact() -> bool:
    """Whether this installation's two decoders agree, on small pictures of each kind.

    They are the same code where both packages come as wheels. A Pillow built on another libjpeg gives other
    pixels: then it decodes alone.
    """
    noise = np.random.default_rng(1).integers(0, 256, (*_PROBE, 3), dtype=np.uint8)
    colours = Image.fromarray(noise)
    try:
        return all(
            _agrees(picture, subsampling, progressive=progressive)
            for picture in (colours, colours.convert("L"))
            for subsampling in (0, 1, 2)
            for progressive in (False, True)
        )
    except (AttributeError, TypeError, ValueError):
        # `_share` uses a door of Pillow's that is not documented
        return False


def _agrees(picture: Image.Image, subsampling: int, *, progressive: bool) -> bool:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, subsampling=subsampling, progressive=progressive)
    with Image.open(file) as image:
        expected = image.convert("RGB")
    pixels = np.empty((expected.height, expected.width, 4), dtype=np.uint8)
    return _decode_into(pixels, file.getvalue()) and _share(pixels).tobytes() == expected.tobytes()


def _is_plain(image: JpegImageFile, data: bytes) -> bool:
    if image.layers not in _LAYERS or image.bits != 8:  # noqa: PLR2004 - bits a sample
        return False
    first, *others = (layer[1:3] for layer in image.layer)
    if others and (first not in _SAMPLINGS or any(other != (1, 1) for other in others)):
        return False
    return _is_huffman_coded(data)


def _is_huffman_coded(data: bytes) -> bool:
    """Whether the one frame before the first scan is of a usual kind, segment by segment."""
    offset = 2
    found = False
    for _ in range(_MAX_SEGMENTS):
        if offset + 4 > len(data) or data[offset] != _MARKER:
            return False
        marker = data[offset + 1]
        if marker == _MARKER:  # a fill byte before a marker
            offset += 1
            continue
        if marker == _START_OF_SCAN:
            return found
        if marker in _OTHER_FRAMES or (found and marker in _FRAMES):
            return False
        found = found or marker in _FRAMES
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return False


def _decode_into(pixels: NDArray[np.uint8], data: bytes) -> bool:
    """Whether all of it could be decoded, without a warning, into `pixels` [height, width, 4]."""
    try:
        decoded = simplejpeg.decode_jpeg(data, "RGBX", buffer=pixels)
    except ValueError:
        # `strict`, its default: warnings too
        return False
    return bool(decoded.shape == pixels.shape)


def _share(pixels: NDArray[np.uint8]) -> Image.Image:
    """The bytes [height, width, 4] as a picture in mode RGB; as in Pillow's own, the fourth means nothing.

    `Image.frombuffer` shares memory in mode RGBX only, with which each resize costs a third more.
    """
    height, width = pixels.shape[:2]
    shared = Image.core.map_buffer(  # type: ignore[attr-defined]  # Pillow does not list it, `frombuffer` uses it
        pixels, (width, height), "raw", 0, ("RGB", 0, 1)
    )
    picture = Image.Image()._new(shared)  # noqa: SLF001 - likewise
    picture.readonly = 1
    return picture
