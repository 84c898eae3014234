"""What is read of a job's results to hand them out as one file; statements only, executed at the doors."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Uuid,
    any_,
    bindparam,
    func,
    literal,
    select,
    text,
)

from models.job import Result
from models.types import ItemState

LABEL_NAMES = text("""
    SELECT coalesce(label ->> 'name', label #>> '{}') AS name
    FROM jobs, jsonb_array_elements(options -> 'labels') WITH ORDINALITY AS given (label, place)
    WHERE id = :job_id
    ORDER BY place
""").bindparams(bindparam("job_id", type_=Uuid()))
"""The names of a job's labels in their order, without the texts and numbers behind them."""


def first_result(job_id: uuid.UUID) -> Select[Result]:
    """The first item that succeeded: the others have the same shapes."""
    return (
        select(Result)
        .where(Result.job_id == job_id, Result.state == ItemState.SUCCEEDED)
        .order_by(Result.index)
        .limit(1)
    )


def outcomes(job_id: uuid.UUID, *, after: int, limit: int) -> Select[int, str | None]:
    """Indexes behind `after`, each with the code of its error, null when it succeeded."""
    return (
        select(Result.index, Result.error["code"].astext)
        .where(Result.job_id == job_id, Result.index > after)
        .order_by(Result.index)
        .limit(limit)
    )


def values(
    job_id: uuid.UUID, indexes: Sequence[int], *columns: ColumnElement[Any]
) -> Select[*tuple[Any, ...]]:
    """Columns of some results, by index."""
    return (
        select(*columns)
        .where(Result.job_id == job_id, Result.index == any_(literal(list(indexes), ARRAY(Integer))))
        .order_by(Result.index)
    )


def longest_custom_id(job_id: uuid.UUID) -> Select[int | None]:
    """The length in characters of the longest custom_id among the results so far."""
    return select(func.max(func.char_length(Result.item["custom_id"].astext))).where(Result.job_id == job_id)
