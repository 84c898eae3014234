"""Submits one picture and draws its logit lens: a row a layer, a column a label, brighter where it fits.

    python plot_layers.py PICTURE "a cat,a dog" -o layers.png

Needs Pillow beside the client; the address and key are those of LENSQUEUE_URL and LENSQUEUE_API_KEY.
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

from lensqueue_client import Client, Item

CELL, LEFT, TOP = (110, 26), 70, 30


def main() -> None:
    """Submit, wait, draw."""
    parser = argparse.ArgumentParser(description="Draw the logit lens of a picture.")
    parser.add_argument("picture")
    parser.add_argument("labels", help="with commas between them")
    parser.add_argument("-o", "--output", default="layers.png")
    parser.add_argument("--template", default="This is a photo of {}.")
    given = parser.parse_args()
    with Client() as client:
        job = client.submit_lens(given.picture, given.labels.split(","), template=given.template)
        job = client.wait(job, on_progress=lambda seen: print(seen.state)).raise_for_failure()
        (item,) = client.results(job)
    draw(item).save(given.output)
    if item.top is not None:
        print(f"{item.top.label}, from layer {item.top.settle_layer} on: {given.output}")


def draw(item: Item) -> Image.Image:
    """Cosines [layer, label] as cells, each with its number; the last layer is at the bottom."""
    assert item.cosine is not None
    width, height = CELL
    shares = (item.cosine - item.cosine.min()) / max(float(np.ptp(item.cosine)), 1e-6)
    canvas = Image.new("RGB", (LEFT + width * len(item.labels), TOP + height * len(item.layers)), "white")
    pen = ImageDraw.Draw(canvas)
    for column, label in enumerate(item.labels):
        pen.text((LEFT + width * column + 4, 8), label, "black")
    for row, layer in enumerate(item.layers):
        pen.text((6, TOP + height * row + 7), f"layer {layer}", "black")
        for column, share in enumerate(shares[row]):
            left, top = LEFT + width * column, TOP + height * row
            colour = (int(40 + 215 * share), int(30 + 170 * share), int(90 - 50 * share))
            pen.rectangle((left, top, left + width - 2, top + height - 2), fill=colour)
            ink = "black" if share > 0.5 else "white"  # noqa: PLR2004 - half as bright
            pen.text((left + 6, top + 7), f"{item.cosine[row, column]:+.3f}", ink)
    return canvas


if __name__ == "__main__":
    main()
