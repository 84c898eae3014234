"""From a claim to its outcome: decoded pictures and texts through the model, in bounded steps."""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import structlog
import torch

from engine.errors import EngineError, OutOfMemoryError
from engine.lens import LabelDirections, Lens
from engine.sizes import ACTIVATION_BYTES
from jobs.errors import BlobStoreFullError
from jobs.leases import Claim, ItemResult, Unit
from jobs.objects import ObjectName
from jobs.pricing import stored_bytes
from models.types import JobType
from worker.answers import Answers, found_of, units_of
from worker.claims import STORE_RETRY_SECONDS, Outcome
from worker.decoding import DecodedItem, Decoding
from worker.feed import pixel_mode
from worker.label_maps import LabelMaps
from worker.outputs import Pictured, has_arrays, store_outputs
from worker.passage import Passage
from worker.passes import directions_of, run_entries
from worker.payloads import embedding_payloads, embeddings_of, is_finite, lens_payloads, with_frames
from worker.rescoring import rescore
from worker.reuse import Reuse, reused_results, reused_rows
from worker.runtime import Runtime
from worker.stages import stage
from worker.steps import Steps
from worker.tables import TableRows, has_table, lens_rows, store_table, vector_rows

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.02
NEWER_OPTIONS: Final = ("activation_layers", "activation_tokens", "softmax", "uncalibrated")
"""Jobs of an earlier version that still wait do not name these."""

Stored = TypeVar("Stored")
Picture = tuple[Unit, DecodedItem]
Text = tuple[Unit, dict[str, Any]]
Key = tuple[uuid.UUID, int]


def compute(
    runtime: Runtime,
    claim: Claim,
    decodings: Sequence[Decoding | None],
    reuse: Reuse,
    passage: Passage,
) -> Outcome:
    """The results of all items, parted by unit, and what computed them.

    `decodings` are those of the claim's units, without the pictures of `reuse`. What the passage raises at a
    step ends the work.
    """
    answers = Answers(claim)
    provenance = dict(runtime.provenance)
    mode = pixel_mode(claim.units[0].options)
    provenance["pixel_path"] = {**provenance.get("pixel_path", {}), "mode": mode}
    _answer_refused(claim, answers)
    try:
        if claim.units[0].type == JobType.LOGIT_LENS:
            _lens(runtime, claim, decodings, reuse, passage, answers, provenance)
        elif claim.units[0].type == JobType.RESCORE:
            rescore(runtime, claim, passage, answers, provenance)
        else:
            _embed_texts(runtime, claim, passage, answers)
            _embed_images(runtime, claim, decodings, reuse, passage, answers)
    except OutOfMemoryError:
        raise
    except EngineError as error:
        answers.refuse(error)
    answers.share()
    return answers.outcome(provenance)


def _answer_refused(claim: Claim, answers: Answers) -> None:
    """Items that had failed before they came here: pictures that could not be fetched."""
    for unit in claim.units:
        refused = [ItemResult(item, error=item["error"]) for item in unit.items if "error" in item]
        answers.add([unit] * len(refused), refused)


def _lens(
    runtime: Runtime,
    claim: Claim,
    decodings: Sequence[Decoding | None],
    reuse: Reuse,
    passage: Passage,
    answers: Answers,
    provenance: dict[str, Any],
) -> None:
    first = claim.units[0]
    directions = directions_of(runtime, first, passage, provenance)
    pictures = _decoded(claim, decodings, passage, answers)
    config = runtime.engine.config
    maps = LabelMaps(first.options, len(directions.names), config.grid, config.layers)
    steps = run_entries(
        runtime,
        pictures,
        lambda part: maps.take(part, _read(runtime, first.options | maps.asked(part), directions, part)),
        passage,
        answers,
        most=_most_pictures(runtime, first.options),
    )
    provenance["head_deviation"] = max((lens.head_deviation or 0.0 for _, lens in steps.done), default=None)
    _store_tables(runtime, claim, lens_rows(steps.done, maps), reuse, passage)
    steps.done = [(part, _asked_of(lens, first.options)) for part, lens in steps.done]
    stored = _store_outputs(runtime, claim, steps, passage)
    table = claim.token if has_table(first) else None
    for part, lens in steps.done:
        keys = [_key(unit.job_id, found) for unit, found in part]
        outputs = {row: stored[key] for row, key in enumerate(keys) if key in stored}
        found = found_of(part)
        results = with_frames(found, lens_payloads(found, lens, outputs, table))
        answers.add(units_of(part), map(reuse.named, units_of(part), results))
    _answer_reused(claim, reuse, answers)


def _read(
    runtime: Runtime, options: dict[str, Any], directions: LabelDirections, part: Sequence[Picture]
) -> Lens:
    # of items of an image set, some have the embeddings of their layers in its table
    outputs = dict.fromkeys([*options["outputs"], *(["embeddings"] if "version" in options else [])])
    return runtime.engine.lens(
        _pixels(part),
        directions,
        outputs=list(outputs),
        layers=options["layers"],
        patch_layers=options["patch_layers"],
        patch_method=options["patch_method"],
        batch_size=len(part),
        **{name: options[name] for name in NEWER_OPTIONS if name in options},
    )


def _asked_of(lens: Lens, options: dict[str, Any]) -> Lens:
    return lens if "embeddings" in options["outputs"] else replace(lens, embeddings=None)


def _most_pictures(runtime: Runtime, options: dict[str, Any]) -> int | None:
    """How many pictures' activations one call of the engine hands out; None where none are asked for."""
    each = stored_bytes(JobType.LOGIT_LENS, options, runtime.checkpoint).get("activations")
    return None if each is None else max(1, ACTIVATION_BYTES // each)


def _pixels(part: Sequence[Picture]) -> list[torch.Tensor]:
    return [torch.from_numpy(found.pixels) for _, found in part]


def _embed_texts(runtime: Runtime, claim: Claim, passage: Passage, answers: Answers) -> None:
    texts = [(unit, item) for unit in claim.units for item in unit.items if item["kind"] == "text"]
    steps = run_entries(
        runtime,
        texts,
        lambda part: runtime.engine.embed_text([item["text"] for _, item in part]),
        passage,
        answers,
    )
    normalize = bool(claim.units[0].options["normalize"])
    for part, vectors in steps.done:
        given = embeddings_of(vectors, normalize=normalize)
        answers.add(units_of(part), embedding_payloads(found_of(part), given))


def _embed_images(
    runtime: Runtime,
    claim: Claim,
    decodings: Sequence[Decoding | None],
    reuse: Reuse,
    passage: Passage,
    answers: Answers,
) -> None:
    steps = run_entries(
        runtime,
        _decoded(claim, decodings, passage, answers),
        lambda part: runtime.engine.embed_images(_pixels(part), batch_size=len(part)),
        passage,
        answers,
    )
    first = claim.units[0]
    normalize = bool(first.options["normalize"])
    done = [(part, embeddings_of(vectors, normalize=normalize)) for part, vectors in steps.done]
    _store_tables(runtime, claim, vector_rows(done), reuse, passage)
    table = claim.token if has_table(first) else None
    for part, given in done:
        decoded = found_of(part)
        results = with_frames(decoded, embedding_payloads([found.item for found in decoded], given, table))
        answers.add(units_of(part), map(reuse.named, units_of(part), results))
    _answer_reused(claim, reuse, answers)


def _answer_reused(claim: Claim, reuse: Reuse, answers: Answers) -> None:
    reused = reused_results(claim, reuse)
    answers.add(units_of(reused), [reuse.named(unit, result) for unit, result in reused])


def _store_tables(
    runtime: Runtime, claim: Claim, computed: Mapping[uuid.UUID, TableRows], reuse: Reuse, passage: Passage
) -> None:
    """The table of each job: what was computed here, and what is taken over of earlier ones."""
    reused = reused_rows(claim, reuse)
    tenants = {unit.job_id: unit.tenant for unit in claim.units}
    for job_id in {**computed, **reused}:
        name = ObjectName(tenants[job_id], job_id, claim.token)
        rows = [each[job_id] for each in (computed, reused) if job_id in each]
        _keep_trying(runtime, partial(store_table, runtime.blobs, name, rows), passage)


def _decoded(
    claim: Claim, decodings: Sequence[Decoding | None], passage: Passage, answers: Answers
) -> list[tuple[Unit, DecodedItem]]:
    pictures = []
    for unit, decoding in zip(claim.units, decodings, strict=True):
        if decoding is None:
            continue
        with stage("decode", clock=lambda: passage.seconds):
            left = decoding.left
            while not decoding.wait(LOOK_SECONDS):
                # a store that hangs is no progress
                passage.linger() if decoding.left == left else passage.step()
                left = decoding.left
        decoded, failed = decoding.result()
        passage.step()
        answers.add([unit] * len(failed), failed)
        pictures += [(unit, found) for found in decoded]
    return pictures


def _store_outputs(
    runtime: Runtime, claim: Claim, steps: Steps[Picture, Lens], passage: Passage
) -> dict[Key, dict[str, Any]]:
    """Where the arrays of each picture lie: one object a job."""
    pictures: dict[tuple[str, uuid.UUID], list[Pictured]] = defaultdict(list)
    for part, lens in steps.done:
        for row, (unit, found) in enumerate(part):
            if has_arrays(lens) and is_finite(lens, row):
                pictures[unit.tenant, unit.job_id].append(Pictured(found, lens, row))
    outputs = {}
    for (tenant, job_id), of_job in pictures.items():
        name = ObjectName(tenant, job_id, claim.token)
        store = partial(store_outputs, runtime.blobs, name, of_job, runtime.engine.config)
        stored = _keep_trying(runtime, store, passage)
        outputs.update({_key(job_id, each.found): where for each, where in zip(of_job, stored, strict=True)})
    return outputs


def _keep_trying(runtime: Runtime, store: Callable[[], Stored], passage: Passage) -> Stored:
    """Store arrays; while the disk is full they are kept and tried again, half as long as a lease lasts.

    After that there is still time to give the work back, without a loss.
    """
    deadline = time.monotonic() + runtime.settings.hard_limit_seconds / 2
    while True:
        passage.step()
        try:
            return store()
        except BlobStoreFullError:
            if time.monotonic() > deadline:
                raise
            log.warning("outputs.wait_for_room", folder=str(runtime.blobs.folder))
            time.sleep(STORE_RETRY_SECONDS)


def _key(job_id: uuid.UUID, found: DecodedItem) -> Key:
    return job_id, int(found.item["index"])
