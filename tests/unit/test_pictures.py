"""Untrusted bytes: every kind of picture that is read, every way of not being one."""

import io
import random
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageFile

from pictures.convert import to_rgb
from pictures.decode import Limits, decode
from pictures.errors import (
    ImageEmptyError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnreadableError,
    NotAnImageError,
    PictureError,
)
from pictures.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}
ORIENTATION = 0x0112


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    count = size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, random.Random(5).randbytes(count))  # noqa: S311 - noise, not a secret


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data is next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\x00" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
def test_supported_formats_are_sniffed_and_decoded(form: str, media_type: str) -> None:
    data = encode(noise(), form)
    assert sniff(data) == media_type
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    if form in ("PNG", "BMP", "TIFF"):
        assert image.tobytes() == noise().tobytes()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_torn_files_are_refused(form: str, share: float) -> None:
    data = encode(noise(size=(300, 200)), form)
    with pytest.raises(PictureError) as refusal:
        decode(data[: int(len(data) * share)])
    # A torn TIFF loses its directory, which stands at its end: nothing is left that says so.
    allowed = {"image-truncated", "image-unreadable"} if form == "TIFF" else {"image-truncated"}
    assert refusal.value.code in allowed
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_no_bytes_are_their_own_fault() -> None:
    with pytest.raises(ImageEmptyError) as refusal:
        decode(b"")
    assert refusal.value.code == "image-empty"


@pytest.mark.parametrize(
    "data",
    [
        b"this is a text that somebody named photo.jpg",
        b"BM is how this text begins, and it is no bitmap at all",
        b"%PDF-1.7 ...",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x00" * 200,
        b"\xff",
        encode(noise(), "PPM"),
        encode(noise(), "ICO"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    ],
)
def test_bytes_of_no_supported_format_never_reach_a_decoder(data: bytes) -> None:
    assert sniff(data) is None
    with pytest.raises(NotAnImageError) as refusal:
        decode(data)
    assert refusal.value.code == "not-an-image"
    assert "JPEG" in str(refusal.value)


def test_a_damaged_picture_is_unreadable_rather_than_torn() -> None:
    data = bytearray(encode(noise(), "PNG"))
    position = data.index(b"IDAT") + 8
    data[position : position + 20] = b"\x00" * 20
    with pytest.raises(ImageUnreadableError) as refusal:
        decode(bytes(data))
    assert refusal.value.code == "image-unreadable"


@pytest.mark.parametrize("size", [(30_000, 30_000), (10_000, 9_500), (8_001, 8_001), (2_000_000_000, 2)])
def test_pixel_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError) as refusal:
        decode(png_of_size(*size))
    assert refusal.value.code == "image-too-large"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillow_s_bomb_warning_is_an_error_whatever_the_limits_say() -> None:
    with pytest.raises(ImageTooLargeError):
        decode(png_of_size(10_000, 9_500), Limits(pixels=10**9))


def test_limits_are_exact() -> None:
    data = encode(noise(), "PNG")
    assert decode(data, Limits(image_bytes=len(data), pixels=1200)).size == (40, 30)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decode(data, Limits(image_bytes=len(data) - 1))
    with pytest.raises(ImageTooLargeError, match="40 x 30 pixels, the limit is 1199"):
        decode(data, Limits(pixels=1199))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    back: dict[int, Callable[[Image.Image], Image.Image]] = {
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }
    upright = noise()
    stored = back.get(orientation, lambda image: image)(upright)  # type: ignore[no-untyped-call]  # Pillow annotates it not
    exif = noise().getexif()
    exif[ORIENTATION] = orientation
    image = decode(encode(stored, "PNG", exif=exif))
    assert image.size == upright.size
    assert image.tobytes() == upright.tobytes()


def test_damaged_exif_leaves_the_picture_as_it_is() -> None:
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01"
    assert decode(encode(noise(), "JPEG", exif=exif)).size == (40, 30)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_modes_become_rgb_as_pillow_converts_them(mode: str) -> None:
    image = noise().convert(mode)
    form = "JPEG" if mode == "YCbCr" else "TIFF" if mode == "CMYK" else "PNG"
    decoded = decode(encode(image, form))
    assert decoded.mode == "RGB"
    if form != "JPEG":
        assert decoded.tobytes() == image.convert("RGB").tobytes()


def test_alpha_is_dropped_not_composited() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    assert decode(encode(clear, "PNG")).getpixel((0, 0)) == (200, 100, 50)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encode(palette, "PNG", transparency=b"\x00\x00")).getpixel((0, 0)) == (10, 20, 30)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    wide = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32896, 65535)):
        wide.putpixel((x, 0), value)
    for form in ("PNG", "TIFF"):
        decoded = decode(encode(wide, form))
        assert [decoded.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", (0, 32896, 65535), (0, 128, 255)),
        ("I", (0, 2**30, 2**31 - 1), (0, 128, 255)),
        ("I", (-1000, 0, 1000), (0, 128, 255)),
        ("F", (0.0, 0.5, 1.0), (0, 128, 255)),
        ("F", (0.0, 100.0, 255.0), (0, 100, 255)),
        ("F", (-2.0, 0.0, 2.0), (0, 128, 255)),
    ],
)
def test_wide_grey_is_scaled_by_its_range(
    mode: str, values: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    wide = Image.new(mode, (3, 1))
    for x, value in enumerate(values):
        wide.putpixel((x, 0), value)
    assert [to_rgb(wide).getpixel((x, 0)) for x in range(3)] == [(value,) * 3 for value in expected]


def test_the_first_frame_of_many_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert decode(data).getpixel((4, 4)) == (255, 0, 0)


def test_noise_behind_any_header_gives_only_picture_errors() -> None:
    """Whatever follows a right header, the caller sees a picture or one of the five refusals."""
    source = random.Random(11)  # noqa: S311 - repeatable noise
    seeds = [encode(noise(), form) for form in FORMATS]
    for _ in range(300):
        data = bytearray(source.choice(seeds))
        for _ in range(source.randint(1, 12)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            assert decode(bytes(data[: source.randint(12, len(data))])).mode == "RGB"
        except PictureError as refusal:
            assert refusal.code != "picture-error"  # noqa: PT017 - either outcome is right


def test_torn_is_said_as_torn() -> None:
    with pytest.raises(ImageTruncatedError, match="send the whole file again"):
        decode(encode(noise(size=(100, 100)), "JPEG")[:2000])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_every_format_that_holds_an_orientation_is_turned_once(form: str, orientation: int) -> None:
    """A picture whose left upper corner alone is bright: where it ends up says how it was turned."""
    stored = Image.new("RGB", (64, 32))
    stored.paste((255, 255, 255), (0, 0, 16, 16))
    corners = {2: (1, 0), 3: (1, 1), 6: (1, 0), 8: (0, 1)}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode(encode(stored, form, exif=exif))
    assert image.size == ((32, 64) if orientation > 4 else (64, 32))
    right, bottom = corners[orientation]
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        place = (4 + x * (image.width - 9), 4 + y * (image.height - 9))
        assert (image.convert("L").getpixel(place) > 128) == ((x, y) == (right, bottom))  # type: ignore[operator]  # one band gives a number


def test_a_cmyk_jpeg_has_the_colours_that_its_maker_saw() -> None:
    for colour in ((255, 0, 0), (0, 128, 255), (250, 250, 250), (0, 0, 0)):
        ink = Image.new("RGB", (16, 16), colour).convert("CMYK")
        found = decode(encode(ink, "JPEG", quality=100)).getpixel((8, 8))
        assert found == pytest.approx(colour, abs=3)


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "PNG", "TIFF"])
def test_alpha_is_dropped_in_every_format_that_has_it(form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    half = Image.new("RGBA", (16, 16), (200, 100, 50, 128))
    assert decode(encode(half, form, **options)).getpixel((8, 8)) == pytest.approx((200, 100, 50), abs=4)


def png_of(bits: int, colour: int, row: bytes, width: int) -> bytes:
    """A PNG of one row, as it is laid out in the file (PNG specification, 11.2)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    table = chunk(b"PLTE", bytes((9, 8, 7, 200, 100, 50))) if colour == 3 else b""
    body = chunk(b"IDAT", zlib.compress(b"\x00" + row))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + table + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour", "row", "expected"),
    [
        (1, 0, b"\x40", [(0, 0, 0), (255, 255, 255)]),
        (2, 0, b"\x60", [(85, 85, 85), (170, 170, 170)]),
        (4, 0, b"\x3c", [(51, 51, 51), (204, 204, 204)]),
        (1, 3, b"\x40", [(9, 8, 7), (200, 100, 50)]),
        (4, 3, b"\x01", [(9, 8, 7), (200, 100, 50)]),
        (16, 0, struct.pack(">2H", 0x8080, 0xFFFF), [(128, 128, 128), (255, 255, 255)]),
        (
            16,
            2,
            struct.pack(">6H", 0x0000, 0x8080, 0xFFFF, 0x1010, 0x2020, 0x3030),
            [(0, 128, 255), (16, 32, 48)],
        ),
        (16, 4, struct.pack(">4H", 0x8080, 0, 0xFFFF, 0x8000), [(128, 128, 128), (255, 255, 255)]),
        (16, 6, struct.pack(">8H", *(0x0000, 0x8080, 0xFFFF, 0) * 2), [(0, 128, 255)] * 2),
    ],
)
def test_every_depth_of_a_png_is_scaled_to_bytes(
    bits: int, colour: int, row: bytes, expected: list[tuple[int, int, int]]
) -> None:
    image = decode(png_of(bits, colour, row, 2))
    assert [image.getpixel((x, 0)) for x in range(2)] == expected
