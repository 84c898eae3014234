"""A job with a lens of patches, as a worker would have stored it."""

import io
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from jobs import leases
from jobs.blobs import BlobStore
from jobs.images import Content
from jobs.leases import Appetite, ItemResult, UnitResult
from jobs.objects import ObjectName, put_object
from jobs.submission import ImageItem, Submission
from models.types import JobType
from pictures.thumbnail import thumbnail
from tests.ledger import MODEL, TENANT, admit_and_submit, claim

LAYERS, LABELS, GRID = [2, 4], ["a cat", "dog"], (27, 27)
SIZE = (300, 200)


def finish_mapped(
    sessions: sessionmaker[Session],
    blobs: BlobStore,
    scores: NDArray[np.float32],
    *,
    labels: Sequence[str] = LABELS,
    name: str | None = None,
) -> uuid.UUID:
    """Finish a job of three: a lens with maps, a lens without, and a failure."""
    pictures = [
        ImageItem(Content(blobs.put(TENANT, bytes([index])), 1), custom_id=name) for index in range(3)
    ]
    options: dict[str, Any] = {"labels": list(labels), "template": "{}", "outputs": ["pooled", "patch"]}
    options |= {"layers": "all", "patch_layers": None, "patch_method": "head"}
    wanted = Submission(JobType.LOGIT_LENS, MODEL, pictures, options)
    job = admit_and_submit(sessions, wanted)
    held = claim(sessions, appetite=Appetite(items=3))
    assert held is not None
    file = io.BytesIO()
    np.save(file, scores)
    small = thumbnail(Image.new("RGB", SIZE, "white"))
    spans = put_object(blobs, ObjectName(TENANT, job, held.token), [file.getvalue(), small])
    pooled = {"layers": [0, 4], "labels": list(labels), "cosine": [[0.1, 0.2], [0.4, 0.1]]}
    top = {"label": labels[0], "tied": False, "margin": 0.3, "settle_layer": 4}
    patch = {
        "layers": LAYERS,
        "grid": list(GRID),
        "patch_size": 14,
        "image_size": 384,
        "method": "head",
        "scale": {"low": float(scores.min()), "high": float(scores.max())},
        "stored": {
            "object": held.token.hex,
            "scores": [spans[0].offset, spans[0].length],
            "thumbnail": [spans[1].offset, spans[1].length],
        },
    }
    payload: dict[str, Any] = {"width": 3000, "height": 2000, "pooled": pooled, "top": top}
    error = {"code": "image-truncated", "message": "torn", "retryable": False}
    first, second, third = (unit.items[0] for unit in held.units)
    results = [
        ItemResult(first, payload={**payload, "patch": patch}),
        ItemResult(second, payload=payload),
        ItemResult(third, error=error),
    ]
    units = [UnitResult(job, unit, [result], {"model": MODEL}) for unit, result in enumerate(results)]
    with sessions.begin() as session:
        assert leases.complete(session, held.token, units)
    return job
