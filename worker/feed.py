"""The pictures of a claim on their way to the model: begun with the claim, and waited for later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.leases import Claim, ItemResult, Unit
from models.types import JobType
from pictures.decode import Limits
from worker.decoding import DecodedItem, decode_items
from worker.runtime import Runtime


class Decoding(Protocol):
    """The pictures of a unit, being decoded."""

    def result(self) -> tuple[list[DecodedItem], list[ItemResult]]:
        """Wait; the items whose pictures could be decoded, and the failures of the others."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """Pictures that are decoded when they are asked for."""

    decode: Callable[[], tuple[list[DecodedItem], list[ItemResult]]]

    def result(self) -> tuple[list[DecodedItem], list[ItemResult]]:
        """Decode them now."""
        return self.decode()


def begin_decoding(runtime: Runtime, claim: Claim) -> list[Decoding]:
    """The pictures of each unit of the claim; texts are left out."""
    return [_begin(runtime, unit) for unit in claim.units]


def _begin(runtime: Runtime, unit: Unit) -> Decoding:
    settings = runtime.settings
    limits = Limits(image_bytes=settings.max_image_bytes, pixels=settings.max_image_pixels)
    items = pictures_of(unit.items)
    thumbnails = unit.type == JobType.LOGIT_LENS and "patch" in unit.options["outputs"]
    return Postponed(
        lambda: (
            decode_items(
                runtime.blobs, unit.tenant, items, limits, runtime.engine.squash, thumbnails=thumbnails
            )
            if items
            else ([], [])
        )
    )


def pictures_of(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that are pictures."""
    return [item for item in items if item["kind"] == "image"]
