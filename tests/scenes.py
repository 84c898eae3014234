"""Pictures that tests make in numbers: small, and each unlike the others."""

import io

from PIL import Image


def tiny_png(number: int) -> bytes:
    """A picture of four pixels; equal numbers are equal bytes."""
    made = io.BytesIO()
    colour = (number % 256, number // 256 % 256, number // 65_536 % 256)
    Image.new("RGB", (2, 2), colour).save(made, "PNG")
    return made.getvalue()


def tiny_pngs(count: int) -> dict[str, bytes]:
    """So many of them, by names of files."""
    return {f"{number:06}.png": tiny_png(number) for number in range(count)}
