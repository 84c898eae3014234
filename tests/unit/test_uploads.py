"""What the bytes of an upload say before anything decodes them."""

import io
import random

import pytest
from PIL import Image

from pictures.errors import ImageEmptyError, ImageTooLargeError, ImageTruncatedError, NotAnImageError
from pictures.sniff import MEDIA_TYPES
from pictures.upload import inspect

PLENTY = 10**6


def noise(size: tuple[int, int] = (120, 90)) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(7).randbytes(size[0] * size[1] * 3))  # noqa: S311 - noise, not a secret


def encode(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or noise()).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("media_type", "form"), MEDIA_TYPES.items())
def test_the_media_type_comes_from_the_bytes(media_type: str, form: str) -> None:
    assert inspect(encode(form), PLENTY) == media_type


def test_no_bytes_and_other_bytes_are_refused() -> None:
    with pytest.raises(ImageEmptyError):
        inspect(b"", PLENTY)
    for data in (b"hello", b"<svg/>", b"BM a text", b"\x00" * 99, b"%PDF-1.7"):
        with pytest.raises(NotAnImageError):
            inspect(data, PLENTY)


def test_the_limit_of_bytes_is_exact() -> None:
    data = encode("PNG")
    assert inspect(data, len(data)) == "image/png"
    with pytest.raises(ImageTooLargeError, match=f"the limit is {len(data) - 1}"):
        inspect(data, len(data) - 1)


# A TIFF's directory stands anywhere: its bytes do not say what is missing.
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_torn_file_is_refused(form: str, share: float) -> None:
    data = encode(form)
    with pytest.raises(ImageTruncatedError):
        inspect(data[: int(len(data) * share)], PLENTY)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_bytes_behind_the_picture_are_allowed(form: str) -> None:
    film = b"\x00\x00\x00\x18ftypmp42" + bytes(range(200))
    assert inspect(encode(form) + film, PLENTY) in MEDIA_TYPES


def test_a_progressive_jpeg_with_bytes_behind_it_has_its_end() -> None:
    assert inspect(encode("JPEG", progressive=True) + bytes(100), PLENTY) == "image/jpeg"


def test_the_end_of_an_exif_thumbnail_is_not_the_end_of_the_picture() -> None:
    inner = encode("JPEG", noise((16, 12)))
    whole = encode("JPEG", exif=b"Exif\x00\x00" + inner)
    assert whole.count(b"\xff\xd9") == 2
    assert inspect(whole, PLENTY) == "image/jpeg"
    assert inspect(whole + bytes(100), PLENTY) == "image/jpeg"
    with pytest.raises(ImageTruncatedError):
        inspect(whole[: len(whole) * 2 // 3], PLENTY)


@pytest.mark.parametrize("bits", ["1", "P", "RGB"])
def test_a_bitmap_whose_size_field_is_wrong_is_whole_when_its_rows_are(bits: str) -> None:
    data = bytearray(encode("BMP", noise((33, 21)).convert(bits)))
    data[2:6] = (len(data) + 2).to_bytes(4, "little")
    assert inspect(bytes(data), PLENTY) == "image/bmp"
    with pytest.raises(ImageTruncatedError):
        inspect(bytes(data[:-1]), PLENTY)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_a_picture_s_beginnings_are_judged_without_a_crash(form: str) -> None:
    data = encode(form)
    passed = 0
    for length in range(1, 400):
        try:
            inspect(data[:length], PLENTY)
            passed += 1
        except (ImageTruncatedError, NotAnImageError):
            pass
    # Cut where a box or a semicolon happens to end, a beginning looks whole.
    assert passed < 5


def test_damaged_headers_are_judged_without_a_crash() -> None:
    source = random.Random(5)  # noqa: S311 - repeatable noise
    seeds = [encode(form, noise((20, 15))) for form in MEDIA_TYPES.values()]
    for _ in range(400):
        data = bytearray(source.choice(seeds))
        for _ in range(source.randint(1, 20)):
            data[source.randrange(len(data))] = source.choice((0, 255, source.randrange(256)))
        try:
            assert inspect(bytes(data[: source.randint(1, len(data))]), PLENTY) in MEDIA_TYPES
        except (ImageTruncatedError, NotAnImageError) as refusal:
            assert refusal.code in ("image-truncated", "not-an-image")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 3_000_000,
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\x01\x00" * 1_500_000,
        b"\x00\x00\x00\x10ftypavif" + bytes(4) + b"\x00\x00\x00\x08free" * 400_000,
    ],
    ids=["fill bytes", "blocks of one byte", "empty boxes"],
)
def test_a_file_that_was_made_to_be_slow_is_left_to_the_decoder(data: bytes) -> None:
    assert inspect(data, 10_000_000).startswith("image/")
