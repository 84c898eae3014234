"""The pictures of a claim on their way to the model: begun with the claim, and waited for later."""

import uuid
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from engine.plan import TOKEN_OUTPUTS
from jobs.leases import Claim, Unit
from models.types import JobType
from worker.decoding import Decoding, start_decoding
from worker.runtime import Runtime

EXACT: Final = "exact"
DRAFT: Final = "draft"


def begin_decoding(
    runtime: Runtime,
    claim: Claim,
    *,
    urgent: bool = False,
    known: Container[tuple[uuid.UUID, str]] = frozenset(),
) -> list[Decoding | None]:
    """The pictures of each unit of the claim, being decoded; None of a unit without any.

    Not those that are `known`, by job and SHA-256.
    """
    return [_begin(runtime, unit, known, urgent=urgent) for unit in claim.units]


def pictures_of(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with a picture to decode, of those with the same bytes the first.

    Not those of which only embeddings are read.
    """
    first: dict[str, dict[str, Any]] = {}
    for item in items:
        if "sha256" in item:
            first.setdefault(item["sha256"], item)
    return list(first.values())


def pixel_mode(options: Mapping[str, Any]) -> str:
    """How a job's pictures are decoded; those that were sent before there was a choice are exact."""
    return str(options.get("pixels", EXACT))


def _begin(
    runtime: Runtime, unit: Unit, known: Container[tuple[uuid.UUID, str]], *, urgent: bool
) -> Decoding | None:
    items = [item for item in pictures_of(unit.items) if (unit.job_id, item["sha256"]) not in known]
    if not items:
        return None
    assert runtime.decoders is not None
    thumbnails = unit.type == JobType.LOGIT_LENS and bool(set(TOKEN_OUTPUTS) & set(unit.options["outputs"]))
    return start_decoding(
        runtime.decoders,
        runtime.blobs,
        unit.tenant,
        items,
        thumbnails=thumbnails,
        draft=pixel_mode(unit.options) == DRAFT,
        urgent=urgent,
    )
