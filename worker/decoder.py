"""A decoding process, `python -m worker.decoder ORDER`: bytes in at its standard input, pixels out by a slot.

It is started and fed by `worker.decoding_process`, and never imports torch.
"""

import importlib
import json
import mmap
import os
import sys
import warnings
from typing import BinaryIO, Final

from PIL import AvifImagePlugin, Image

from pictures.convert import squash
from pictures.decode import Limits, read, side_of_draft
from pictures.errors import PictureError
from pictures.jpeg import is_exact
from pictures.thumbnail import thumbnail
from worker.confinement import confine
from worker.errors import DecoderCrashedError, ImageTooCostlyError
from worker.frames import ANSWER, MAX_MESSAGE, REQUEST, Kind, Order

PRELOADED: Final = (
    "BmpImagePlugin",
    "ExifTags",
    "GifImagePlugin",
    "ImageCms",
    "ImageColor",
    "ImageFilter",
    "ImageOps",
    "ImagePalette",
    "JpegImagePlugin",
    "MpoImagePlugin",
    "PngImagePlugin",
    "TiffImagePlugin",
    "WebPImagePlugin",
)
"""Of Pillow, whatever a picture may call for: once confined, no file can be opened."""
CODECS: Final = ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be")


def main() -> None:
    """Decode one picture after the other until the worker closes the line."""
    order = Order(**json.loads(sys.argv[1]))
    slot = mmap.mmap(order.slot, order.slot_bytes)
    os.close(order.slot)
    preload()
    requests = sys.stdin.buffer
    with open(requests.fileno(), "wb", closefd=False) as answers:
        kept = confine(order.memory_bytes, order.cpu_seconds, order.parent)
        answer(answers, Kind.READY, " ".join(kept).encode())
        while head := requests.read(REQUEST.size):
            wants_thumbnail, draft, length = REQUEST.unpack(head)
            data = requests.read(length)
            serve(answers, data, slot, order, wants_thumbnail=wants_thumbnail, draft=draft)


def preload() -> None:
    """Do now what would otherwise be done, with files opened for it, at the first picture that needs it."""
    Image.preinit()
    for module in PRELOADED:
        importlib.import_module(f"PIL.{module}")
    for codec in CODECS:
        "".encode(codec)
    # decided once, on pictures of its own
    is_exact()
    # one thread a picture: the worker has as many decoders as it was given processors
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    warnings.simplefilter("ignore")


def serve(
    answers: BinaryIO,
    data: bytes,
    slot: mmap.mmap,
    order: Order,
    *,
    wants_thumbnail: bool,
    draft: bool = False,
) -> None:
    """Decode one picture into the slot, and say how it went."""
    try:
        limits = Limits(order.image_bytes, order.pixels, order.frames)
        found = read(data, limits, draft_side=side_of_draft(order.side) if draft else None)
        small = thumbnail(found.image) if wants_thumbnail else b""
        bands = squash(found.image, order.side, order.resample).split()
        slot[:] = b"".join(band.tobytes() for band in bands)
    except PictureError as error:
        refuse(answers, _blame_memory(error))
    except MemoryError:
        refuse(answers, ImageTooCostlyError())
    except Exception as error:  # noqa: BLE001 - none that `pictures` knows: the worker logs it
        refuse(answers, DecoderCrashedError(f"{type(error).__name__}: {error}"))
    else:
        answer(answers, Kind.DECODED, small, (found.width, found.height, found.frames or 0))


def refuse(answers: BinaryIO, error: PictureError) -> None:
    """Say why the picture cannot be used."""
    answer(answers, Kind.REFUSED, f"{error.code}\n{error}"[:MAX_MESSAGE].encode(errors="replace"))


def answer(answers: BinaryIO, kind: Kind, body: bytes, numbers: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Write one answer to the worker; the numbers are width, height and frames."""
    answers.write(ANSWER.pack(kind, *numbers, len(body)) + body)
    answers.flush()


def _blame_memory(error: PictureError) -> PictureError:
    """A codec that was refused memory mostly says so in words; the others call the file broken."""
    return ImageTooCostlyError() if "memory" in str(error).lower() else error


if __name__ == "__main__":
    main()
