"""Pictures that a camera might have taken, as far as decoders can tell."""

import numpy as np
from PIL import Image


def scenery(size: tuple[int, int], seed: int = 1, noise: float = 1.5) -> Image.Image:
    """Slopes of light, texture whose strength falls with its fineness as in photographs, and sensor noise.

    Each octave of texture has half the contrast of the one above, down to single pixels; `noise` is the
    deviation of each, in levels.
    """
    chance = np.random.default_rng(seed)
    width, height = size
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    light = np.stack([128 + 60 * np.sin(across * turn + down * 3) for turn in (7, 4, 9)], axis=-1)
    pixels = light + chance.normal(0, noise, (height, width, 3))
    octave, contrast = 4, 40.0
    while octave < max(size):
        coarse = chance.normal(0, contrast, (octave, octave)).astype(np.float32)
        fine = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        # neighbouring colours differ less than neighbouring brightness
        pixels += np.asarray(fine)[..., None] * chance.uniform(0.8, 1.0, 3)
        octave, contrast = octave * 2, contrast / 2
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
