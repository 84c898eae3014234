"""Jobs with results of known numbers, as a worker would have stored them."""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from engine.plan import MAX_SCORED_LABELS
from jobs import leases
from jobs.images import Content
from jobs.leases import Appetite, Claim, ItemResult, UnitResult
from jobs.submission import ImageItem, Submission
from models.types import JobType
from tests.ledger import MODEL, TENANT, admit_and_submit, claim

Sessions = sessionmaker[Session]
LAYERS = [0, 2, 4]
WIDTH = 8
KEPT = 5
TORN = {"code": "image-truncated", "message": "torn", "retryable": False}
PROVENANCE = {"model": MODEL, "revision": "0" * 40}


def submit_lens(sessions: Sessions, count: int, labels: Sequence[str], tenant: str = TENANT) -> uuid.UUID:
    """A queued lens over pictures that are no pictures: nobody decodes them."""
    pictures = [
        ImageItem(Content(f"{index:064x}", 1), custom_id=None if index % 3 == 2 else f"ä {index}.jpg")
        for index in range(count)
    ]
    options: dict[str, Any] = {"labels": list(labels), "template": "{}", "outputs": ["pooled"]}
    options |= {"layers": "all", "patch_layers": None, "patch_method": "head"}
    return admit_and_submit(sessions, Submission(JobType.LOGIT_LENS, MODEL, pictures, options), tenant)


def complete_with(
    sessions: Sessions, held: Claim, payloads: dict[int, dict[str, Any]], failing: Sequence[int] = ()
) -> None:
    """Complete a claim with these payloads by index; those that are to fail do so instead."""
    results = [
        UnitResult(
            unit.job_id,
            unit.unit,
            [
                ItemResult(item, error=TORN)
                if item["index"] in failing
                else ItemResult(item, payload=payloads[item["index"]])
                for item in unit.items
            ],
            PROVENANCE,
        )
        for unit in held.units
    ]
    with sessions.begin() as session:
        assert leases.complete(session, held.token, results)


def finish_with(sessions: Sessions, payloads: dict[int, dict[str, Any]], failing: Sequence[int] = ()) -> None:
    """Do all that waits."""
    while held := claim(sessions, appetite=Appetite(items=32)):
        complete_with(sessions, held, payloads, failing)


def lens_payloads(count: int, labels: Sequence[str]) -> tuple[dict[int, dict[str, Any]], NDArray[np.float32]]:
    """What a lens stores of each picture, and the cosines [item, layer, label] of all labels."""
    drawn = np.random.default_rng(7).uniform(-1, 1, (count, len(LAYERS), len(labels))).astype(np.float32)
    payloads = {}
    for index, cosine in enumerate(drawn):
        best = np.argsort(-cosine[-1])
        kept = best[:KEPT] if len(labels) > MAX_SCORED_LABELS else np.arange(len(labels))
        final = {"logit": cosine[-1, kept] * 100, "match_probability": cosine[-1, kept] / 2 + 0.5}
        payloads[index] = {
            "width": 300 + index,
            "height": 200,
            "pooled": {
                "layers": LAYERS,
                "labels": [labels[place] for place in kept],
                "cosine": np.ascontiguousarray(cosine[:, kept]),
                "rank": [[0] * len(kept)] * len(LAYERS),
                "final": final,
            },
            "top": {
                "label": labels[int(best[0])],
                "tied": False,
                "margin": None if index == 0 else float(np.float32(0.25)),
                "settle_layer": None if index == 0 else 4,
                "label_by_layer": [labels[int(best[0])]] * len(LAYERS),
            },
        }
    return payloads, drawn


def embedding_payloads(count: int) -> tuple[dict[int, dict[str, Any]], NDArray[np.float32]]:
    """What is stored of embedded texts, and the embeddings [item, width]."""
    drawn = np.random.default_rng(8).uniform(-1, 1, (count, WIDTH)).astype(np.float32)
    return {index: {"dimensions": WIDTH, "embedding": row} for index, row in enumerate(drawn)}, drawn
