"""New labels over embeddings that a lens kept: read from the store and scored, and no picture decoded."""

import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.lens import LabelDirections, Lens
from jobs.errors import BlobMissingError
from jobs.leases import Claim, ItemResult, Unit
from jobs.objects import ObjectName, Span, read_span
from worker.answers import Answers, found_of, units_of
from worker.decoding import item_error
from worker.passage import Passage
from worker.passes import directions_of, run_entries
from worker.payloads import lens_payloads, with_frames
from worker.runtime import Runtime

WEIGHTS_DIFFER: Final = item_error(
    "weights-differ",
    "The embeddings were kept of other weights than those that run under this model's name now: run the lens"
    " again.",
    retryable=False,
)
EMBEDDINGS_GONE: Final = item_error(
    "embeddings-gone",
    "The embeddings of this item were removed before they were scored: run the lens again.",
    retryable=False,
)


@dataclass(frozen=True, slots=True)
class KeptItem:
    """An item and the embeddings [layer, width] of its picture, as the bytes of a .npy file."""

    item: dict[str, Any]
    embeddings: bytes

    @property
    def width(self) -> int:
        """Of its picture, upright, in pixels."""
        return int(self.item["width"])

    @property
    def height(self) -> int:
        """Of its picture, upright, in pixels."""
        return int(self.item["height"])

    @property
    def frame(self) -> dict[str, int | None] | None:
        """Which frame the lens has read, see `DecodedItem`."""
        frame: dict[str, int | None] | None = self.item["frame"]
        return frame


Kept = tuple[Unit, KeptItem]


def rescore(
    runtime: Runtime, claim: Claim, passage: Passage, answers: Answers, provenance: dict[str, Any]
) -> None:
    """Score what was kept of the items against the labels of their job.

    The provenance tells of the job that the embeddings come from, and of what computed them.
    """
    first = claim.units[0]
    source: dict[str, Any] = first.options["source"]
    provenance["from_job"] = first.options["from_job"]
    provenance["pixel_path"] = source["pixel_path"]
    provenance["embeddings"] = {name: source[name] for name in ("dtype", "runtime", "device")}
    provenance["head_deviation"] = None
    if source["weights_sha256"] != runtime.provenance.get("weights_sha256"):
        for unit in claim.units:
            answers.add(
                [unit] * len(unit.items), [ItemResult(item, error=WEIGHTS_DIFFER) for item in unit.items]
            )
        return
    directions = directions_of(runtime, first, passage, provenance)
    kept = _read(runtime, claim, uuid.UUID(source["job_id"]), passage, answers)
    steps = run_entries(
        runtime, kept, lambda part: _score(runtime, first.options, directions, part), passage, answers
    )
    for part, lens in steps.done:
        found = found_of(part)
        answers.add(units_of(part), with_frames(found, lens_payloads(found, lens, {})))


def _read(
    runtime: Runtime, claim: Claim, source_id: uuid.UUID, passage: Passage, answers: Answers
) -> list[Kept]:
    """The embeddings of each item, as far as they are there.

    Raises:
        BlobStoreMissingError, OSError: no item's fault; a later moment may do it.
    """
    kept = []
    for unit in claim.units:
        for item in unit.items:
            passage.step()
            stored = item["stored"]
            name = ObjectName(unit.tenant, source_id, uuid.UUID(stored["object"]))
            try:
                kept.append((unit, KeptItem(item, read_span(runtime.blobs, name, Span(*stored["array"])))))
            except BlobMissingError:
                answers.add([unit], [ItemResult(item, error=EMBEDDINGS_GONE)])
    return kept


def _score(
    runtime: Runtime, options: dict[str, Any], directions: LabelDirections, part: Sequence[Kept]
) -> Lens:
    arrays = [np.load(io.BytesIO(kept.embeddings), allow_pickle=False) for _, kept in part]
    return runtime.engine.rescore(
        np.stack(arrays),
        directions,
        layers=options["layers"],
        softmax=options["softmax"],
        uncalibrated=options["uncalibrated"],
    )
