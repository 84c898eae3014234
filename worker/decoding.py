"""From stored bytes to checked pixels; what cannot be decoded becomes an item error."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError
from jobs.leases import ItemResult
from pictures.errors import PictureError
from worker.decode_pool import DecodePool
from worker.feeding import Pending


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """An item and its picture, squashed to what the model reads; width and height are upright, as sent.

    `pixels` are RGB bytes [3, side, side]; `thumbnail` is a small JPEG of it with its aspect kept, where one
    was asked for. It is the first of so many `frames`, None where that could not be told.
    """

    item: dict[str, Any]
    pixels: NDArray[np.uint8]
    width: int
    height: int
    thumbnail: bytes | None = None
    frames: int | None = 1

    @property
    def frame(self) -> dict[str, int | None] | None:
        """For its result, which frame it is and of how many; None for a picture that has one alone."""
        return None if self.frames == 1 else {"index": 0, "of": self.frames}


@dataclass(frozen=True, slots=True)
class Decoding:
    """Items whose pictures are being decoded."""

    items: Sequence[dict[str, Any]]
    pending: Pending

    @property
    def left(self) -> int:
        """How many are not decoded yet."""
        return self.pending.left

    def wait(self, seconds: float) -> bool:
        """Wait for all of them; False when the time is over before."""
        return self.pending.wait(seconds)

    def result(self) -> tuple[list[DecodedItem], list[ItemResult]]:
        """Wait; the items whose pictures could be decoded, and the failures of the others.

        Raises:
            DecoderStartError, DecodingStoppedError, OSError: no picture's fault; a later moment may do it.
        """
        decoded: list[DecodedItem] = []
        failed: list[ItemResult] = []
        for item, found in zip(self.items, self.pending.result(), strict=True):
            if isinstance(found, (PictureError, BlobMissingError)):
                failed.append(ItemResult(item, error=item_error(found.code, str(found), retryable=False)))
            elif isinstance(found, Exception):
                raise found
            else:
                decoded.append(
                    DecodedItem(item, found.pixels, found.width, found.height, found.thumbnail, found.frames)
                )
        return decoded, failed

    def cancel(self) -> None:
        """Begin no more of them."""
        self.pending.cancel()


def start_decoding(
    pool: DecodePool,
    blobs: BlobStore,
    tenant: str,
    items: Sequence[dict[str, Any]],
    *,
    thumbnails: bool = False,
    draft: bool = False,
    urgent: bool = False,
) -> Decoding:
    """Have the items' pictures decoded while the caller does something else; see `DecodePool.submit`."""
    loads = [partial(blobs.get, tenant, item["sha256"]) for item in items]
    return Decoding(items, pool.submit(loads, thumbnails=thumbnails, draft=draft, urgent=urgent))


def item_error(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    """The error of an item, as it is stored and shown."""
    return {"code": code, "message": message, "retryable": retryable}
