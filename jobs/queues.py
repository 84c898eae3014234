"""Pausing a model's queue, and letting it go on: what is accepted meanwhile waits."""

from sqlalchemy import Double, Select, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs import queries
from models.queue import Queue


def pause(session: Session, model: str) -> None:
    """Let nothing of a queue be claimed any more; what workers hold, they finish."""
    row = insert(Queue).values(model=model, paused_at=func.now())
    session.execute(
        row.on_conflict_do_update(
            index_elements=[Queue.model],
            set_={"paused_at": func.coalesce(Queue.paused_at, row.excluded.paused_at)},
        )
    )


def resume(session: Session, model: str) -> None:
    """Let a queue go on; the caller commits, then invites the workers."""
    session.execute(update(Queue).where(Queue.model == model).values(paused_at=None))


def standing(model: str | None = None) -> Select[Queue, int | None, int | None, float | None]:
    """The queues, each with its waiting and running items, and the age in seconds of what waits longest."""
    depths = queries.queue_depths().subquery("depths")
    waiting, running, oldest_s = list(depths.c)[1:]
    found = (
        select(Queue, waiting, running, cast(oldest_s, Double))
        .outerjoin(depths, depths.c.model == Queue.model)
        .order_by(Queue.model)
    )
    return found if model is None else found.where(Queue.model == model)
