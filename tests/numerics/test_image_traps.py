"""Pictures: what changes a pixel without anybody noticing."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SiglipImageProcessorPil

from engine.errors import InvalidArgumentError
from engine.preprocess import PixelPath, look_up_batch, normalize, pixel_bytes
from engine.siglip import SiglipEngine
from pictures.convert import squash
from tests.numerics.checkpoints import SMALL

SIDE = SMALL.image_size

ORIENTATION = 0x0112


@pytest.mark.parametrize("name", ["siglip", "siglip2", "demo"])
def test_pixels_are_the_stock_processor_s_bit_for_bit(
    name: str, pictures: list[Image.Image], request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue(name)
    processor = engine.processor.image_processor
    assert type(processor) is SiglipImageProcessorPil
    stock = processor(pictures, do_convert_rgb=True, return_tensors="pt")["pixel_values"]
    ours = engine.normalize(pictures)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, stock)


def test_bytes_copied_to_a_device_become_the_same_pixel_values(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    path = siglip._pixels
    tensor = torch.from_numpy(np.array(pictures[0])).permute(2, 0, 1)
    mixed = [*pictures, tensor, tensor[:, :SIDE, :SIDE]]
    held = pixel_bytes(path, mixed)
    assert (held.dtype, held.shape) == (torch.uint8, (len(mixed), 3, SIDE, SIDE))
    assert torch.equal(look_up_batch(path.table, held), siglip.normalize(mixed))
    assert torch.equal(look_up_batch(path.table.bfloat16(), held), siglip.normalize(mixed).bfloat16())
    assert look_up_batch(path.table, pixel_bytes(path, [])).shape == siglip.normalize([]).shape


def test_each_channel_is_looked_up_in_its_own_row() -> None:
    table = torch.arange(768, dtype=torch.float32).reshape(3, 256)
    path = PixelPath(SIDE, Image.Resampling.BICUBIC, table, (0.0,) * 3, (1.0,) * 3)
    noise = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    expected = noise.float() + torch.tensor([0.0, 256.0, 512.0])[:, None, None]
    assert torch.equal(normalize(path, list(noise)), expected)
    assert torch.equal(look_up_batch(table, pixel_bytes(path, list(noise))), expected)


def test_floats_are_no_bytes(siglip: SiglipEngine) -> None:
    with pytest.raises(InvalidArgumentError, match="image"):
        pixel_bytes(siglip._pixels, [torch.zeros(3, SIDE, SIDE)])


def test_every_byte_has_its_own_value_between_minus_one_and_one(siglip: SiglipEngine) -> None:
    ramp = torch.arange(256).repeat(9)[: SIDE * SIDE].to(torch.uint8)
    values = siglip.normalize(ramp.reshape(1, SIDE, SIDE).expand(3, -1, -1))[0, 0].flatten()[:256]
    assert values[0] == -1.0
    assert values[255] == 1.0
    assert torch.all(values.diff() > 0)
    assert values.numpy() == pytest.approx(np.arange(256) / 127.5 - 1.0, abs=1e-6)


def test_the_resample_filter_is_the_checkpoint_s(
    siglip: SiglipEngine, siglip2: SiglipEngine, pictures: list[Image.Image]
) -> None:
    assert siglip.provenance["pixel_path"]["resample"] == "bicubic"
    assert siglip2.provenance["pixel_path"]["resample"] == "bilinear"
    assert not torch.equal(siglip.normalize(pictures[0]), siglip2.normalize(pictures[0]))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb_even_where_the_checkpoint_says_null(
    siglip2: SiglipEngine, pictures: list[Image.Image], mode: str
) -> None:
    assert siglip2.processor.image_processor.do_convert_rgb is None
    grey = pictures[0].convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)
        expected = grey.convert("RGB")
    elif mode == "LA":
        picture = grey.convert("LA")
        expected = grey.convert("RGB")
    else:
        picture = pictures[0].convert(mode)
        expected = picture.convert("RGB")
    assert picture.mode == mode
    values = siglip2.normalize(picture)
    assert values.shape == (1, 3, SIDE, SIDE)
    assert torch.equal(values, siglip2.normalize(expected))


def test_a_16_bit_picture_is_scaled_not_clipped(siglip: SiglipEngine) -> None:
    grey = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE)
    values = siglip.normalize(Image.fromarray(grey.astype(np.uint16)))[0, 0]
    assert values.numpy() == pytest.approx(grey / 65535 * 2.0 - 1.0, abs=1.01 / 255)


def test_exif_orientation_is_applied(siglip: SiglipEngine, pictures: list[Image.Image]) -> None:
    upright = pictures[0]
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    lying.getexif()[ORIENTATION] = 6  # "turn by 90 degrees clockwise to see it right"
    assert torch.equal(siglip.normalize(lying), siglip.normalize(upright))
    assert lying.size == (upright.height, upright.width)


def test_tensors_are_read_as_the_picture_they_hold(siglip: SiglipEngine, pictures: list[Image.Image]) -> None:
    expected = siglip.normalize(pictures[0])
    pixels = torch.from_numpy(np.array(pictures[0])).permute(2, 0, 1)
    assert torch.equal(siglip.normalize(pixels), expected)
    assert torch.equal(siglip.normalize([pixels, pictures[0]]), expected.expand(2, -1, -1, -1))
    # Floats are not rounded to bytes on the way, hence half a level.
    assert torch.allclose(siglip.normalize(pixels.float() / 255.0), expected, atol=1.5 / 127.5)


def test_a_patch_of_14_pixels_covers_42_of_48(siglip: SiglipEngine) -> None:
    """As 27 x 14 = 378 of 384: what lies beyond is never read."""
    assert siglip.config.grid == (3, 3)
    assert siglip.config.patch_tokens == 9
    generator = torch.Generator().manual_seed(1)
    pixel_values = torch.rand((1, 3, SIDE, SIDE), generator=generator)
    other = pixel_values.clone()
    other[:, :, 42:, :] = 0.0
    other[:, :, :, 42:] = 0.0
    assert torch.equal(siglip.forward(pixel_values)[0], siglip.forward(other)[0])
    other[:, :, 41, :] = 0.0
    assert not torch.equal(siglip.forward(pixel_values)[0], siglip.forward(other)[0])


def test_last_hidden_state_is_normed_already_and_norming_it_again_is_wrong(
    siglip: SiglipEngine, pictures: list[Image.Image]
) -> None:
    pixel_values = siglip.normalize(pictures)
    with torch.no_grad():
        stock = siglip.model.vision_model(pixel_values=pixel_values)
    twice = siglip.logit_lens(stock.last_hidden_state)
    once = siglip.logit_lens(siglip.forward(pixel_values)[1]["token_embeddings"])
    assert torch.equal(once, stock.pooler_output)
    assert torch.cosine_similarity(twice, stock.pooler_output).max() < 0.99


def test_a_squashed_picture_normalizes_to_the_same_bits(demo: SiglipEngine) -> None:
    picture = Image.effect_noise((301, 203), 90).convert("RGB")
    squashed = squash(picture, demo.config.img_size, demo._pixels.resample)
    assert squashed.size == (demo.config.img_size, demo.config.img_size)
    assert torch.equal(demo.normalize(squashed), demo.normalize(picture))
