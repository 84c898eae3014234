"""Versions with vectors and no pictures, made by SQL: for tests of what is searched."""

import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from jobs import image_sets
from jobs.nearest import CANDIDATES, SET_BY_INDEX, Filters, Nearest, find_nearest, statement_of
from jobs.vectors import begin_index, end_index, store_vectors
from models.image_set import ImageSetVersion
from models.set_vector import SetIndex
from tests.integration.test_plans import nodes
from tests.ledger import TENANT

Sessions = sessionmaker[Session]
WIDTH = 128
MODEL = "some/model"
WEIGHTS = "w" * 64
BY_INDEX = f"ix_set_vectors_hnsw_{WIDTH}"
KINDS = ("a ring", "a square", "a heart", "an arrow")


def version_of(sessions: Sessions, pictures: int, tenant: str = TENANT) -> uuid.UUID:
    """A sealed version of items of one picture, whose true labels take turns, and every tenth a test."""
    with sessions.begin() as session:
        made = image_sets.create_set(session, tenant, "made")
        version = session.scalars(select(ImageSetVersion).where(ImageSetVersion.set_id == made.id)).one()
        image_id = session.scalar(
            text(
                "INSERT INTO images (tenant, sha256, image_bytes) VALUES (:tenant, :sha256, 1) RETURNING id"
            ),
            {"tenant": tenant, "sha256": uuid.uuid4().hex},
        )
        session.execute(
            text("""
                INSERT INTO image_set_items (
                    version_id, index, custom_id, image_id, sha256, true_label, split
                )
                SELECT :version_id, n, 'item-' || n, :image_id, '', (CAST(:kinds AS text[]))[n % 4 + 1],
                       CASE WHEN n % 10 = 0 THEN 'test' ELSE 'train' END
                FROM generate_series(0, :pictures - 1) AS n
            """),
            {"version_id": version.id, "image_id": image_id, "kinds": list(KINDS), "pictures": pictures},
        )
        session.execute(
            update(ImageSetVersion)
            .where(ImageSetVersion.id == version.id)
            .values(items=pictures, manifest_sha256="0" * 64, sealed_at=func.now())
        )
    return version.id


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors [item, width] around some centres, in few dimensions but for noise, as embeddings are."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed + 1)
    centres, basis = fixed.standard_normal((40, 24)), fixed.standard_normal((24, WIDTH))
    inner = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.standard_normal((count, 24))
    vectors = inner @ basis + 0.3 * rng.standard_normal((count, WIDTH))
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def expected(stored: NDArray[np.float32], vector: NDArray[np.float32], limit: int = 10) -> list[int]:
    """The nearest by numpy, of vectors as they are stored."""
    cosines = stored.astype(np.float16).astype(np.float64) @ vector
    return [int(index) for index in np.argsort(-cosines, kind="stable")[:limit]]


def search(sessions: Sessions, head: SetIndex, vector: NDArray[np.float32], **more: Any) -> Nearest:
    """What is nearest, ten unless told."""
    with sessions.begin() as session:
        return find_nearest(session, head, vector, **{"limit": 10, **more})


def plan_of(
    sessions: Sessions, head: SetIndex, vector: NDArray[np.float32], filters: Filters, *, by_index: bool
) -> list[dict[str, Any]]:
    """How a search is done."""
    statement, values = statement_of(head, vector, 10, filters, by_index=by_index)
    with sessions.begin() as session:
        if by_index:
            session.execute(SET_BY_INDEX, {"candidates": CANDIDATES})
        connection = session.connection()
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.compile(connection)}"
        return list(nodes(connection.exec_driver_sql(explained, dict(values)).scalar_one()[0]["Plan"]))


def indexed(
    sessions: Sessions, version_id: uuid.UUID, vectors: NDArray[np.float32], model: str = MODEL
) -> SetIndex:
    """The version, searchable by these vectors of its first items."""
    with sessions.begin() as session:
        begin_index(session, version_id, model, vectors.shape[1], WEIGHTS)
        store_vectors(session, version_id, model, np.arange(len(vectors)), vectors)
        end_index(session, version_id, model)
    return head_of(sessions, version_id, model)


def head_of(sessions: Sessions, version_id: uuid.UUID, model: str = MODEL) -> SetIndex:
    with sessions() as session:
        return session.get_one(SetIndex, (version_id, model))
