"""Thumbnails and other pictures as data URLs, small enough for a page to hold two hundred."""

import base64
from collections.abc import Iterable
from typing import Final

from analysis.set_report.facts import LayerMap, Pictures
from pictures.decode import decode
from pictures.errors import PictureError
from pictures.thumbnail import thumbnail

STAMP_SIDE: Final = 96
MAPS_SHOWN: Final = 3
MAP_BYTES: Final = 16_384
"""More than a painted map of this size takes; a larger one is left out."""


def stamps(indexes: Iterable[int], pictures: Pictures) -> dict[int, str]:
    """The pictures that can be read, each asked for once, at most 96 pixels a side.

    Always written anew: what else a file holds (where it was taken, a camera's serial number) stays behind.
    """
    found = {}
    for index in dict.fromkeys(indexes):
        picture = pictures(index)
        if picture is not None:
            url = _stamp(picture)
            if url is not None:
                found[index] = url
    return found


def map_urls(maps: Iterable[LayerMap]) -> list[tuple[LayerMap, str]]:
    """The first maps of an item that are PNG and small."""
    small = [each for each in maps if each.png.startswith(b"\x89PNG") and len(each.png) <= MAP_BYTES]
    return [(each, data_url("image/png", each.png)) for each in small[:MAPS_SHOWN]]


def data_url(media_type: str, data: bytes) -> str:
    """The bytes as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _stamp(data: bytes) -> str | None:
    try:
        return data_url("image/jpeg", thumbnail(decode(data), STAMP_SIDE))
    except PictureError:
        return None
