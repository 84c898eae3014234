"""The work of a worker, top to bottom: claim, decode, forward and lens, store."""

import time
from typing import Any

import structlog
import torch
from sqlalchemy.exc import InterfaceError, OperationalError

from engine.errors import EngineError, OutOfMemoryError
from jobs import leases
from jobs.leases import Claim, ItemResult
from models.types import JobType
from worker.decoding import DecodedItem, decode_items, item_error
from worker.maps import store_maps
from worker.payloads import embedding_payloads, lens_payloads
from worker.runtime import Runtime

log = structlog.get_logger()

DATABASE_LOST = (OperationalError, InterfaceError)
STORE_RETRY_SECONDS = 1.0
PROMPTS_SHOWN = 100
MAX_REASON = 500


def run_slice(runtime: Runtime) -> bool:
    """Run unit after unit; True when the time slice, or the worker, ended before the work did."""
    deadline = time.monotonic() + runtime.settings.slice_seconds
    try:
        while claim := claim_unit(runtime):
            run_unit(runtime, claim)
            if time.monotonic() >= deadline or runtime.heartbeat.ending:
                return True
    except DATABASE_LOST as error:
        # nothing is lost: what was leased will expire, and whoever comes back is invited again
        log.warning("claim.failed", error=str(error))
    return False


def run_unit(runtime: Runtime, claim: Claim) -> None:
    """Compute a unit under its lease and store what came out."""
    with (
        structlog.contextvars.bound_contextvars(
            job_id=str(claim.job_id), unit=claim.unit, attempt=claim.attempt
        ),
        runtime.heartbeat.holding(claim.token),
    ):
        log.info("unit.claimed", items=len(claim.items))
        try:
            results, provenance = compute(runtime, claim)
        except (Exception, SystemExit) as error:
            # not the items' fault: a later moment, or a worker with more room, may do it
            log.exception("unit.failed")
            give_back(runtime, claim, f"{type(error).__name__}: {error}"[:MAX_REASON])
            return
        store(runtime, claim, results, provenance)


def claim_unit(runtime: Runtime) -> Claim | None:
    """Lease the oldest waiting unit of this worker's model."""
    settings = runtime.settings
    with runtime.sessions.begin() as session:
        return leases.claim(
            session,
            model=settings.model,
            worker_id=settings.worker_id,
            ttl=settings.lease,
            hard_limit=settings.hard_limit,
        )


def compute(runtime: Runtime, claim: Claim) -> tuple[list[ItemResult], dict[str, Any] | None]:
    """The results of all items of a unit, in their order, and what computed them."""
    provenance = dict(runtime.provenance)
    try:
        if claim.type == JobType.LOGIT_LENS:
            results = _lens(runtime, claim, provenance)
        else:
            results = _embed(runtime, claim)
    except OutOfMemoryError:
        raise
    except EngineError as error:
        # what the engine refuses it refuses again: labels that it cannot tell apart, for one
        refused = item_error(error.code, str(error), retryable=False)
        results = [ItemResult(item, error=refused) for item in claim.items]
    # a unit in which nothing succeeded has computed nothing: another one is to say what did
    known = provenance if any(result.payload is not None for result in results) else None
    return sorted(results, key=lambda result: int(result.item["index"])), known


def store(
    runtime: Runtime, claim: Claim, results: list[ItemResult], provenance: dict[str, Any] | None
) -> None:
    """Complete the unit; the computed results are kept and tried again while the database is away."""
    while True:
        try:
            with runtime.sessions.begin() as session:
                kept = leases.complete(session, claim.token, results, provenance)
        except DATABASE_LOST as error:
            log.warning("store.retried", error=str(error))
            time.sleep(STORE_RETRY_SECONDS)
        else:
            log.info("unit.completed" if kept else "unit.abandoned")
            return


def give_back(runtime: Runtime, claim: Claim, reason: str) -> None:
    """Put the unit back into the queue, with the reason in its history."""
    with runtime.sessions.begin() as session:
        leases.release(session, claim.token, reason)
    log.warning("unit.released", reason=reason)


def _lens(runtime: Runtime, claim: Claim, provenance: dict[str, Any]) -> list[ItemResult]:
    options = claim.options
    directions = runtime.labels.directions(claim.tenant, options["labels"], options["template"])
    provenance["template"] = options["template"]
    # a poll carries the provenance: thousands of prompts would weigh more than the job
    provenance["prompts"] = list(directions.prompts)[:PROMPTS_SHOWN]
    decoded, failed = _decode(runtime, claim, thumbnails="patch" in options["outputs"])
    if not decoded:
        return failed
    lens = runtime.engine.lens(
        [torch.from_numpy(found.pixels) for found in decoded],
        directions,
        outputs=options["outputs"],
        layers=options["layers"],
        patch_layers=options["patch_layers"],
        patch_method=options["patch_method"],
    )
    maps = None
    if lens.patch is not None:
        config = runtime.engine.config
        maps = store_maps(runtime.blobs, claim.tenant, claim.token, decoded, lens.patch, config)
    return lens_payloads(decoded, lens, maps) + failed


def _embed(runtime: Runtime, claim: Claim) -> list[ItemResult]:
    normalize = bool(claim.options["normalize"])
    if claim.items[0]["kind"] == "text":
        vectors = runtime.engine.embed_text([item["text"] for item in claim.items])
        return embedding_payloads(claim.items, vectors, normalize=normalize)
    decoded, failed = _decode(runtime, claim)
    if not decoded:
        return failed
    vectors = runtime.engine.embed_images([torch.from_numpy(found.pixels) for found in decoded])
    return embedding_payloads([found.item for found in decoded], vectors, normalize=normalize) + failed


def _decode(
    runtime: Runtime, claim: Claim, *, thumbnails: bool = False
) -> tuple[list[DecodedItem], list[ItemResult]]:
    assert runtime.decoders is not None
    return decode_items(runtime.decoders, runtime.blobs, claim.tenant, claim.items, thumbnails=thumbnails)
