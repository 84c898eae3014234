"""From stored bytes to checked pictures; what cannot be decoded becomes an item error."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError
from jobs.leases import ItemResult
from pictures.decode import Limits, decode
from pictures.errors import PictureError
from pictures.thumbnail import thumbnail


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """An item and its picture, squashed to what the model reads; width and height are upright, as sent.

    `thumbnail` is a small JPEG of it with its aspect kept, where one was asked for.
    """

    item: dict[str, Any]
    image: Image.Image
    width: int
    height: int
    thumbnail: bytes | None = None


def decode_items(
    blobs: BlobStore,
    tenant: str,
    items: Iterable[dict[str, Any]],
    limits: Limits,
    squash: Callable[[Image.Image], Image.Image],
    *,
    thumbnails: bool = False,
) -> tuple[list[DecodedItem], list[ItemResult]]:
    """The items whose pictures could be decoded, and the failures of the others.

    Each is squashed at once, so that one picture of full size is held at a time.
    """
    decoded: list[DecodedItem] = []
    failed: list[ItemResult] = []
    for item in items:
        try:
            image = decode(blobs.get(tenant, item["sha256"]), limits)
            small = thumbnail(image) if thumbnails else None
            decoded.append(DecodedItem(item, squash(image), image.width, image.height, small))
        except (PictureError, BlobMissingError) as error:
            failed.append(ItemResult(item, error=item_error(error.code, str(error), retryable=False)))
    return decoded, failed


def item_error(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    """The error of an item, as it is stored and shown."""
    return {"code": code, "message": message, "retryable": retryable}
