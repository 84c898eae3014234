"""Picture files of every kind that a decoder may be given."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(size: tuple[int, int] = (70, 50), mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def wide_grey() -> Image.Image:
    return Image.fromarray(np.arange(70 * 50, dtype=np.uint16).reshape(50, 70) * 18)


def png_of_size(width: int, height: int, rows: int = 0) -> bytes:
    """A PNG whose header claims a size; only so many black rows follow."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(rows * (3 * width + 1)) or bytes(100), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description, \u00fc"
    return exif.tobytes()


PICTURES = {
    "JPEG": encode(noise(), "JPEG"),
    "JPEG, turned, progressive": encode(noise(), "JPEG", exif=turned(), progressive=True, dpi=(72, 72)),
    "JPEG, CMYK": encode(noise(mode="CMYK"), "JPEG"),
    "JPEG of several frames": encode(noise(), "MPO", save_all=True, append_images=[noise()]),
    "PNG": encode(noise(), "PNG"),
    "PNG, alpha": encode(noise(mode="RGBA"), "PNG"),
    "PNG, palette": encode(noise(mode="P"), "PNG", transparency=b"\x00\x80"),
    "PNG, 16 bit": encode(wide_grey(), "PNG"),
    "PNG, turned": encode(noise(), "PNG", exif=turned()),
    "WebP": encode(noise(), "WEBP"),
    "WebP, large enough for threads": encode(noise((900, 700)), "WEBP", exif=turned()),
    "JPEG, grey": encode(noise(mode="L"), "JPEG"),
    "JPEG, RGB as such": encode(noise(), "JPEG", keep_rgb=True),
    "PNG of several frames": encode(noise(), "PNG", save_all=True, append_images=[noise()]),
    "WebP of several frames": encode(noise(), "WEBP", save_all=True, append_images=[noise(mode="L")]),
    "AVIF of several frames": encode(noise(), "AVIF", save_all=True, append_images=[noise(mode="L")]),
    "TIFF of several pages": encode(noise(), "TIFF", save_all=True, append_images=[noise()]),
    "GIF of several frames": encode(noise(), "GIF", save_all=True, append_images=[noise(mode="L")]),
    "BMP": encode(noise(), "BMP"),
    "TIFF": encode(noise(), "TIFF"),
    "TIFF, deflate": encode(noise(), "TIFF", compression="tiff_deflate"),
    "TIFF, JPEG inside": encode(noise(), "TIFF", compression="jpeg"),
    "TIFF, LZW, LAB": encode(noise(), "TIFF", compression="tiff_lzw", description="\u00e4"),
    "TIFF, floats": encode(noise(mode="F"), "TIFF"),
    "AVIF": encode(noise((400, 300)), "AVIF"),
}
