"""A job over an image set as it stands when it has ended, with made-up numbers: its rows, and its tables.

Rows are stored by SQL, tables by `jobs.tables`, one a claim of 128 items, with the columns that a summary
reads. Of the items one in 200 is no picture, one in 100 has the bytes of the one before, one in 100 looks
like the one before.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import DEMO_MODEL
from jobs import image_sets
from jobs.blobs import BlobStore
from jobs.objects import ObjectName
from jobs.tables import PICTURED, SAMPLED, is_sampled, put_table
from models.image_set import ImageSetVersion
from models.job import Job
from models.types import JobState, JobType
from worker.label_maps import METHOD, most_mapped

CLAIM_ITEMS: Final = 128
BROKEN, COPY, ALIKE = 200, 100, 100
BROKEN_AT: Final = 7
ALIKE_AT: Final = ALIKE // 2
THUMBNAIL: Final = bytes(3_000)
CENTRES: Final = 5

ITEMS = text("""
    INSERT INTO image_set_items (
        version_id, index, custom_id, image_id, sha256, image_bytes, true_label, error
    )
    SELECT :version_id, n, 'folder/picture-' || n || '.jpg',
           CASE WHEN n % :broken <> :broken_at THEN CAST(:image_id AS uuid) END,
           CASE WHEN n % :broken <> :broken_at
                THEN encode(sha256(CAST(CAST(n - CAST(n % :copy = 1 AS int) AS text) AS bytea)), 'hex') END,
           100000,
           (CAST(:labels AS text[]))[1 + n % :of_labels],
           CASE WHEN n % :broken = :broken_at
                THEN CAST('{"code": "image-truncated", "message": "It ends early.", "retryable": false}'
                          AS jsonb) END
    FROM generate_series(0, :items - 1) AS n
""")
FAILED = text("""
    INSERT INTO results (job_id, index, state, item, error)
    SELECT :job_id, index, 'failed', jsonb_build_object('index', index, 'kind', 'image'), error
    FROM image_set_items WHERE version_id = :version_id AND error IS NOT NULL
""")
ATTEMPTS = text("""
    INSERT INTO attempts (job_id, unit, attempt, worker_id, lease_token, ended_at, outcome)
    SELECT :job_id, place - 1, 1, :job_id, token, now(), 'completed'
    FROM unnest(CAST(:tokens AS uuid[])) WITH ORDINALITY AS made (token, place)
""")


@dataclass(frozen=True, slots=True)
class Shape:
    """How many numbers an item has."""

    layers: int
    labels: int
    width: int
    side: int
    """Of the grid of patches."""


SHAPES: Final = {"demo": Shape(7, 30, 128, 10), "base-224": Shape(13, 30, 768, 14)}


def simulate(sessions: sessionmaker[Session], blobs: BlobStore, tenant: str, shape: Shape, items: int) -> Job:
    """The ended job."""
    labels = [f"a photo of label {number}" for number in range(shape.labels)]
    told = {
        "layers": list(range(shape.layers)),
        "labels": labels,
        "width": shape.width,
        "maps": {"grid": [shape.side, shape.side], "layer": shape.layers - 1, "method": METHOD},
    }
    with sessions.begin() as session:
        version = _store_version(session, tenant, labels, items)
        broken = len(range(BROKEN_AT, items, BROKEN))
        job = Job(
            tenant=tenant,
            type=JobType.LOGIT_LENS,
            model=DEMO_MODEL,
            state=JobState.PARTIAL if broken else JobState.SUCCEEDED,
            options={
                "labels": labels,
                "version": {
                    "id": str(version.id),
                    "manifest_sha256": "0" * 64,
                    "items": items,
                },
            },
            version_id=version.id,
            total=items,
            succeeded=items - broken,
            failed=broken,
            provenance={"revision": "simulated", "weights_sha256": "0" * 64, "layers": shape.layers - 1},
        )
        session.add(job)
        session.flush()
        session.execute(FAILED, {"job_id": job.id, "version_id": version.id})
        tokens = [uuid.uuid4() for _ in range(0, items, CLAIM_ITEMS)]
        session.execute(ATTEMPTS, {"job_id": job.id, "tokens": tokens})
        session.execute(
            text("UPDATE jobs SET started_at = now(), ended_at = now() WHERE id = :id"), {"id": job.id}
        )
    with sessions.begin() as session:
        session.execute(text("ANALYZE image_set_items, results, attempts"))
    for token, columns in zip(tokens, _tables(shape, items), strict=True):
        put_table(blobs, ObjectName(tenant, job.id, token), pa.table(columns), told)
    with sessions() as session:
        return session.get_one(Job, job.id)


def _store_version(session: Session, tenant: str, labels: list[str], items: int) -> ImageSetVersion:
    made = image_sets.create_set(session, tenant, "simulated")
    version = session.scalars(select(ImageSetVersion).where(ImageSetVersion.set_id == made.id)).one()
    image_id = session.scalar(
        text("INSERT INTO images (tenant, sha256, image_bytes) VALUES (:tenant, :sha256, 1) RETURNING id"),
        {"tenant": tenant, "sha256": uuid.uuid4().hex},
    )
    session.execute(
        ITEMS,
        {
            "version_id": version.id,
            "image_id": image_id,
            "labels": labels,
            "of_labels": len(labels),
            "items": items,
            "broken": BROKEN,
            "broken_at": BROKEN_AT,
            "copy": COPY,
        },
    )
    session.execute(
        update(ImageSetVersion)
        .where(ImageSetVersion.id == version.id)
        .values(
            items=items,
            failed=len(range(BROKEN_AT, items, BROKEN)),
            labelled=items,
            manifest_sha256="0" * 64,
            sealed_at=func.now(),
        )
    )
    return version


def _tables(shape: Shape, items: int) -> Iterator[dict[str, Any]]:
    """The columns of each claim's table."""
    make = _maker(shape)
    for first in range(0, items, CLAIM_ITEMS):
        index = np.arange(first, min(first + CLAIM_ITEMS, items), dtype=np.int32)
        yield make(index[index % BROKEN != BROKEN_AT], items)


def _maker(shape: Shape) -> Callable[[NDArray[np.int32], int], dict[str, Any]]:
    """What an item's numbers are: labels are told apart better from layer to layer."""
    chance = np.random.default_rng(7)
    centres = chance.standard_normal((shape.labels, shape.width), dtype=np.float32)

    def make(index: NDArray[np.int32], items: int) -> dict[str, Any]:
        n = len(index)
        true = index % shape.labels
        vector = centres[true] + CENTRES * chance.standard_normal((n, shape.width), dtype=np.float32)
        phash = chance.integers(0, 2**64, n, dtype=np.uint64)
        cosine = 0.05 * chance.standard_normal((n, shape.layers, shape.labels), dtype=np.float32)
        cosine[np.arange(n), :, true] += 0.12 * np.linspace(0, 1, shape.layers, dtype=np.float32)
        _repeat(index, vector, phash, cosine)
        taken = np.array([is_sampled(each, items, SAMPLED) for each in index.tolist()])
        pictured = [THUMBNAIL if is_sampled(each, items, PICTURED) else None for each in index.tolist()]
        most = most_mapped(shape.labels, (shape.side, shape.side))
        size = shape.labels * shape.side**2
        maps = [
            chance.standard_normal(size, np.float32).astype(np.float16)
            if is_sampled(each, items, most)
            else None
            for each in index.tolist()
        ]
        layer_vectors = chance.standard_normal((int(taken.sum()), shape.layers * shape.width), np.float32)
        return {
            "index": pa.array(index),
            "width": pa.array(np.full(n, 640, dtype=np.int32)),
            "height": pa.array(np.full(n, 480, dtype=np.int32)),
            "phash": pa.array(phash),
            "thumbnail": pa.array(pictured, pa.binary()),
            "vector": _listed(vector / np.linalg.norm(vector, axis=1, keepdims=True)),
            "cosine": _listed(cosine.reshape(n, -1)),
            "logit": _listed(20 * cosine[:, -1]),
            "layer_vectors": _sparse(layer_vectors, taken),
            "label_maps": pa.array(maps, pa.list_(pa.float16())),
        }

    return make


def _repeat(
    index: NDArray[np.int32],
    vector: NDArray[np.float32],
    phash: NDArray[np.uint64],
    cosine: NDArray[np.float32],
) -> None:
    """Have some items the numbers of those before them, or nearly."""
    for place in np.flatnonzero((index % COPY == 1) | (index % ALIKE == ALIKE_AT)).tolist():
        if place and index[place] == index[place - 1] + 1:
            vector[place], phash[place] = vector[place - 1], phash[place - 1]
            cosine[place] = cosine[place - 1]


def _listed(rows: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])


def _sparse(rows: NDArray[np.float32], taken: NDArray[np.bool_]) -> pa.Array:
    """The rows as lists, null where none was taken."""
    ends = np.concatenate([[0], np.cumsum(taken)]).astype(np.int32) * rows.shape[1]
    offsets = pa.array(ends, mask=np.append(~taken, [False]))
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
