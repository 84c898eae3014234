"""The small copies that overlays are drawn on."""

import io

import numpy as np
import pytest
from PIL import Image

from pictures.errors import ImageTooLargeError, ImageTruncatedError, ImageUnreadableError, NotAnImageError
from pictures.thumbnail import open_thumbnail, thumbnail


def photograph(size: tuple[int, int]) -> Image.Image:
    down, across = np.mgrid[: size[1], : size[0]]
    channels = [across % 256, down % 256, (across + down) % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "stored"),
    [
        ((1024, 768), (512, 384)),
        ((768, 1024), (384, 512)),
        ((80, 60), (80, 60)),
        ((512, 512), (512, 512)),
        ((4000, 300), (512, 38)),
        ((5000, 1), (512, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_thumbnail_keeps_the_aspect_and_is_never_larger(
    size: tuple[int, int], stored: tuple[int, int]
) -> None:
    opened = open_thumbnail(thumbnail(photograph(size)))
    assert (opened.mode, opened.size) == ("RGB", stored)


def test_a_thumbnail_looks_like_its_picture() -> None:
    picture = Image.new("RGB", (400, 400), (200, 40, 30))
    picture.paste((20, 60, 220), (101, 101, 300, 300))
    opened = np.asarray(open_thumbnail(thumbnail(picture)), int)
    # Odd seams between two colours of like brightness are where 4:2:0 bleeds.
    assert np.abs(opened - np.asarray(picture, int)).max() < 50


def test_noise_has_a_thumbnail_too() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert open_thumbnail(thumbnail(Image.fromarray(noise))).size == (512, 512)


def test_a_thumbnail_carries_nothing_of_the_file_but_its_pixels() -> None:
    picture = photograph((900, 600))
    plain = thumbnail(picture)
    picture.info.update(exif=b"Exif\x00\x00secret", comment=b"secret", icc_profile=b"secret", dpi=(300, 300))
    assert thumbnail(picture) == plain
    assert b"secret" not in plain
    small = photograph((60, 40))
    small.info["comment"] = b"secret"
    assert b"secret" not in thumbnail(small)
    assert small.info["comment"] == b"secret"


def test_only_a_jpeg_is_opened_as_a_thumbnail() -> None:
    buffer = io.BytesIO()
    photograph((30, 30)).save(buffer, "PNG")
    for data in (buffer.getvalue(), b"", b"<svg/>"):
        with pytest.raises(NotAnImageError):
            open_thumbnail(data)


def test_a_stored_picture_of_another_making_is_refused() -> None:
    with pytest.raises(ImageTooLargeError):
        open_thumbnail(jpeg(Image.new("RGB", (2049, 3))))
    with pytest.raises(ImageUnreadableError, match="CMYK"):
        open_thumbnail(jpeg(Image.new("CMYK", (30, 30))))


def test_a_torn_thumbnail_is_said_to_be_torn() -> None:
    data = thumbnail(photograph((300, 300)))
    with pytest.raises(ImageTruncatedError):
        open_thumbnail(data[: len(data) // 2])
