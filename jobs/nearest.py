"""Which pictures of a version are nearest to a vector, by cosine: one statement, answered in one of two ways.

Of a version that is not large all vectors are read. Of a large one an index is, which holds those of all
large versions of its width: what is of another version, or what a filter leaves out, is passed over as the
index is read on. Where it has passed over too many before enough was found, all vectors of the version are
read after all: what is found is never less for that.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Integer, Text, TextClause, Uuid, bindparam, text
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from models.set_vector import SetIndex

SET_BY_INDEX: Final = text("""
    SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('hnsw.ef_search', CAST(:candidates AS text), true),
           set_config('enable_sort', 'off', true)
""")
"""Read on until enough is found; and by the index, whatever the planner makes of rows that are as large."""
CANDIDATES: Final = 400
"""So many are looked at to begin with, twice as many as a search can ask for. Of 120,000 vectors of norm 1
with 24 dimensions in effect 100 would do; where they have 128 and the query lies apart from all of them, it
finds half of the nearest ten in twice the time."""

NEAREST: Final = """
    WITH nearest AS MATERIALIZED (
        SELECT vectors.index, {vec} <=> {wanted} AS distance
        FROM set_vectors AS vectors
        WHERE vectors.version_id = :version_id AND vectors.model = :model{conditions}
        ORDER BY {vec} <=> {wanted}{ties} LIMIT :limit
    )
    SELECT index, item.custom_id, item.image_id, item.true_label, item.split, 1 - distance AS cosine,
           item.true_labels
    FROM nearest JOIN image_set_items AS item USING (index)
    WHERE item.version_id = :version_id
    ORDER BY distance, index
"""
FILTERED: Final = """ AND EXISTS (
            SELECT FROM image_set_items AS item
            WHERE item.version_id = vectors.version_id AND item.index = vectors.index{conditions}
        )"""

TYPES: Final[Mapping[str, TypeEngine[Any]]] = {"version_id": Uuid(), "limit": Integer(), "but": Integer()}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which items come into question; None is all of them."""

    true_label: str | None = None
    split: str | None = None
    but: int | None = None
    """Not the item of this index."""
    min_cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """An item and how near it is."""

    index: int
    custom_id: str | None
    image_id: uuid.UUID
    true_label: str | None
    split: str | None
    cosine: float
    true_labels: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Nearest:
    """What is nearest, the nearest first; `exact` where all vectors were read, and none was missed."""

    items: Sequence[Near]
    exact: bool


def find_nearest(
    session: Session,
    head: SetIndex,
    vector: NDArray[np.float32],
    *,
    limit: int,
    filters: Filters | None = None,
    exact: bool = False,
) -> Nearest:
    """The `limit` items nearest to a vector [width]; in a transaction, whose planner it sets."""
    filters = filters or Filters()
    by_index = head.large and not exact
    found = []
    if by_index:
        session.execute(SET_BY_INDEX, {"candidates": CANDIDATES})
        found = _search(session, head, vector, limit, filters, by_index=True)
    if len(found) < limit:
        # the planner may sort again: there is no other way to the nearest of all
        session.execute(text("SELECT set_config('enable_sort', 'on', true)"))
        found = _search(session, head, vector, limit, filters, by_index=False)
        by_index = False
    least_cosine = -2.0 if filters.min_cosine is None else filters.min_cosine
    return Nearest([near for near in found if near.cosine >= least_cosine], exact=not by_index)


def statement_of(
    head: SetIndex, vector: NDArray[np.float32], limit: int, filters: Filters, *, by_index: bool
) -> tuple[TextClause, Mapping[str, Any]]:
    """The statement, which the index can answer only with the very expression that it is over."""
    values: dict[str, Any] = {
        "version_id": head.version_id,
        "model": head.model,
        "vector": f"[{','.join(map(str, vector.tolist()))}]",
        "limit": limit,
    }
    conditions, named = "", ""
    if by_index:
        conditions += f" AND vectors.width = {head.width} AND vectors.large"
    if filters.but is not None:
        conditions += " AND vectors.index <> :but"
        values["but"] = filters.but
    if filters.true_label is not None:
        named += " AND (item.true_label = :true_label OR :true_label = ANY (item.true_labels))"
        values["true_label"] = filters.true_label
    if filters.split is not None:
        named += " AND item.split = :split"
        values["split"] = filters.split
    if named:
        conditions += FILTERED.format(conditions=named)
    kind = f"halfvec({head.width})" if by_index else "halfvec"
    vec = f"CAST(vectors.vec AS {kind})" if by_index else "vectors.vec"
    ties = "" if by_index else ", vectors.index"
    wanted = f"CAST(:vector AS {kind})"
    statement = NEAREST.format(vec=vec, wanted=wanted, conditions=conditions, ties=ties)
    typed = (bindparam(name, type_=TYPES.get(name, Text())) for name in values)
    return text(statement).bindparams(*typed), values


def _search(
    session: Session,
    head: SetIndex,
    vector: NDArray[np.float32],
    limit: int,
    filters: Filters,
    *,
    by_index: bool,
) -> list[Near]:
    statement, values = statement_of(head, vector, limit, filters, by_index=by_index)
    return [Near(*row) for row in session.execute(statement, values)]
