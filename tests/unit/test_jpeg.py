"""The short way through a JPEG: whatever it gives is what Pillow gives, and it takes what is usual."""

import io
import random
from itertools import product

import numpy as np
import pytest
import simplejpeg
from PIL import Image

import pictures.jpeg
from pictures.convert import squash, to_rgb
from pictures.decode import decode, read
from pictures.errors import ImageTruncatedError, PictureError
from pictures.jpeg import is_exact, load_jpeg
from tests.encoded import encode, turned
from tests.scenery import scenery

SIZES = [(1, 1), (2, 1), (7, 13), (16, 16), (17, 33), (131, 77)]
SUBSAMPLINGS = ["444", "422", "420", "440", "411", "Gray"]
BICUBIC = 3
END = b"\xff\xd9"


def by_pillow(data: bytes) -> Image.Image:
    """The long way, which is the reference."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        return to_rgb(image)


def takes_the_short_way(data: bytes) -> bool:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return load_jpeg(image, data) is not None


def assert_same(data: bytes) -> None:
    ours, reference = decode(data), by_pillow(data)
    assert (ours.mode, ours.size) == (reference.mode, reference.size)
    assert ours.tobytes() == reference.tobytes()
    assert squash(ours, 24, BICUBIC).tobytes() == squash(reference, 24, BICUBIC).tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def test_the_decoders_of_this_installation_agree() -> None:
    assert is_exact()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [20, 85, 100])
def test_every_subsampling_and_odd_size_gives_pillow_s_bits(
    size: tuple[int, int], subsampling: str, quality: int
) -> None:
    pixels = np.array(scenery(size))
    data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=subsampling)
    assert takes_the_short_way(data)
    assert_same(data)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restarts", [0, 3])
def test_progressive_files_and_restart_markers_give_pillow_s_bits(
    size: tuple[int, int], progressive: bool, restarts: int
) -> None:
    for mode, subsampling in product(("RGB", "L"), (0, 1, 2)):
        data = encode(
            scenery(size).convert(mode),
            "JPEG",
            subsampling=subsampling,
            progressive=progressive,
            restart_marker_blocks=restarts,
        )
        assert takes_the_short_way(data)
        assert_same(data)


def test_a_picture_of_many_read_blocks_gives_pillow_s_bits() -> None:
    for progressive in (False, True):
        data = encode(scenery((1500, 1100)), "JPEG", quality=100, progressive=progressive)
        assert len(data) > 5 * 65536
        assert takes_the_short_way(data)
        assert_same(data)


def test_rgb_stored_as_such_and_profiles_give_pillow_s_bits() -> None:
    picture = scenery((40, 30))
    plain = encode(picture, "JPEG")
    for data in (
        encode(picture, "JPEG", keep_rgb=True),
        # Adobe's marker alone decides what three layers mean: 0 is RGB, 1 is YCbCr (T.872, 6.5.3)
        *(
            plain[:2] + segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00" + bytes((way,))) + plain[20:]
            for way in (0, 1)
        ),
        encode(picture, "JPEG", icc_profile=bytes(range(256)) * 300, comment=b"what a day"),
        plain[:2] + b"\xff\xff\xff" + plain[2:],
    ):
        assert takes_the_short_way(data)
        assert_same(data)
    assert decode(plain[:2] + plain[20:]).tobytes() == decode(plain).tobytes()


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("place", ["exif", "xmp"])
def test_every_orientation_is_applied_once(orientation: int, place: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = f'<x:xmpmeta><tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    data = encode(scenery((40, 31)), "JPEG", **({"exif": exif} if place == "exif" else {"xmp": xmp}))
    assert takes_the_short_way(data)
    assert_same(data)
    image = decode(data)
    assert image.size == ((31, 40) if orientation in range(5, 9) else (40, 31))
    assert to_rgb(image).tobytes() == image.tobytes()


def test_the_first_of_several_frames_gives_pillow_s_bits() -> None:
    data = encode(scenery((40, 30)), "MPO", save_all=True, append_images=[scenery((40, 30), seed=2)])
    assert takes_the_short_way(data)
    assert_same(data)


def test_what_follows_the_end_is_left_alone() -> None:
    data = encode(scenery((40, 30)), "JPEG") + random.Random(1).randbytes(5000)  # noqa: S311 - noise
    assert takes_the_short_way(data)
    assert_same(data)


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_four_layers_are_pillow_s(mode: str) -> None:
    data = encode(scenery((40, 30)).convert(mode), "JPEG")
    assert takes_the_short_way(data) == (mode != "CMYK")
    assert_same(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SOF", bytes((0xFF, 0xC9))),  # arithmetic coding
        ("SOF", bytes((0xFF, 0xC3))),  # lossless
        ("sampling", bytes((0x31,))),  # three pixels across to one, 4:2:0 of a third
        ("sampling", bytes((0x42,))),
    ],
)
def test_unusual_kinds_of_frames_are_left_to_pillow(old: str, new: bytes) -> None:
    data = bytearray(encode(scenery((40, 30)), "JPEG"))
    start = data.index(b"\xff\xc0")
    place = start if old == "SOF" else start + 11
    data[place : place + len(new)] = new
    assert not takes_the_short_way(bytes(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_torn_file_is_said_to_be_torn(progressive: bool) -> None:
    data = encode(scenery((300, 200)), "JPEG", progressive=progressive)
    for share in (0.05, 0.3, 0.6, 0.95, 0.999):
        torn = data[: int(len(data) * share)]
        with pytest.raises(ImageTruncatedError):
            decode(torn)
    with pytest.raises(ImageTruncatedError):
        decode(data.removesuffix(END))


def test_a_header_that_lies_of_its_size_is_no_harm() -> None:
    data = bytearray(encode(scenery((40, 30)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    for height in (1, 29, 31, 500, 65_000):
        data[place : place + 2] = height.to_bytes(2, "big")
        assert outcome(bytes(data)) == outcome(bytes(data), long=True)


def test_damaged_files_get_pillow_s_verdict_and_pillow_s_bits() -> None:
    source = random.Random(7)  # noqa: S311 - repeatable damage
    whole = [
        encode(scenery((64, 48)), "JPEG", subsampling=subsampling, progressive=progressive, exif=turned())
        for subsampling, progressive in product((0, 2), (False, True))
    ]
    ways = {"short": 0, "long": 0}
    for _ in range(1500):
        data = bytearray(source.choice(whole))
        for _ in range(source.randint(0, 3)):
            data[source.randrange(2, len(data))] = source.randrange(256)
        if source.random() < 0.3:
            data = data[: source.randint(20, len(data))]
            data += END * source.randint(0, 1)
        ours, theirs = outcome(bytes(data)), outcome(bytes(data), long=True)
        assert ours == theirs
        ways["short" if not isinstance(ours, str) else "long"] += 1
    assert min(ways.values()) > 100


def outcome(data: bytes, *, long: bool = False) -> str | tuple[tuple[int, int], bytes]:
    """The pixels, or the code of what is wrong; `long` without the short way."""
    with pytest.MonkeyPatch.context() as patch:
        if long:
            patch.setattr(pictures.jpeg, "is_exact", lambda: False)
        try:
            image = decode(data)
        except PictureError as error:
            return error.code
        return image.size, image.tobytes()


def test_a_pillow_on_another_libjpeg_decodes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that rounds otherwise: then nothing takes the short way, and the pixels are Pillow's."""
    data = encode(scenery((40, 30)), "JPEG")
    expected = decode(data).tobytes()

    def decode_otherwise(data: bytes, pixels: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> bool:
        simplejpeg.decode_jpeg(data, "RGBX", buffer=pixels)
        pixels[0, 0, 0] ^= 1
        return True

    monkeypatch.setattr(pictures.jpeg, "_decode_into", decode_otherwise)
    is_exact.cache_clear()
    try:
        assert not is_exact()
        assert not takes_the_short_way(data)
        assert decode(data).tobytes() == expected
    finally:
        is_exact.cache_clear()


def test_the_picture_shares_no_memory_with_what_is_drawn_on_it() -> None:
    image = decode(encode(scenery((40, 30)), "JPEG"))
    copied = image.copy()
    image.putpixel((3, 3), (1, 2, 3))
    assert image.getpixel((3, 3)) == (1, 2, 3)
    assert copied.getpixel((3, 3)) != (1, 2, 3)


DRAFT_SIDE = 448


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(2400, 1800), (1790, 1800)])
def test_a_draft_is_smaller_close_and_says_the_original_s_size(
    size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scenery(size), "JPEG", quality=88, exif=exif)
    exact, draft = read(data), read(data, draft_side=DRAFT_SIDE)
    assert (draft.width, draft.height) == (exact.width, exact.height) == exact.image.size
    assert max(draft.image.size) < max(exact.image.size)
    assert min(draft.image.size) >= DRAFT_SIDE
    difference = np.abs(levels(draft.image) - levels(exact.image))
    assert 0 < difference.max() <= 2
    assert difference.mean() < 0.25


def test_a_draft_of_a_small_picture_or_another_format_is_exact() -> None:
    small = encode(scenery((800, 600)), "JPEG")
    large = encode(scenery((2400, 1800)), "WEBP")
    for data in (small, large):
        assert read(data, draft_side=DRAFT_SIDE).image.tobytes() == decode(data).tobytes()


def levels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(squash(image, DRAFT_SIDE // 2, BICUBIC)).astype(np.int16)
