"""What is read of jobs and workers; statements only, executed at the doors."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ARRAY, ColumnElement, Select, Text, Uuid, any_, cast, func, literal, select
from sqlalchemy.orm import defer

from models.job import Job, Result
from models.types import WorkerState
from models.work import Attempt, Work
from models.worker import Worker

ONLINE_SECONDS = 10
"""A worker that was not seen for longer counts as gone."""
WORKERS_SHOWN_DAYS = 1


def job_of(tenant: str, job_id: uuid.UUID) -> Select[Job]:
    """A job, if it is the tenant's; without its options, whose labels may weigh more than all the rest."""
    return (
        select(Job).options(defer(Job.options, raiseload=True)).where(Job.id == job_id, Job.tenant == tenant)
    )


def standings(job_ids: Sequence[uuid.UUID]) -> Select[uuid.UUID, str, int, int, int, int]:
    """Where these jobs stand: id, state, counts, and the workers online for the job's model."""
    online = (
        select(Worker.model, func.count().label("workers"))
        .where(Worker.state == WorkerState.ONLINE, _seen(ONLINE_SECONDS))
        .group_by(Worker.model)
        .subquery()
    )
    return (
        select(Job.id, Job.state, Job.succeeded, Job.failed, Job.dropped, func.coalesce(online.c.workers, 0))
        .outerjoin(online, online.c.model == Job.model)
        # one array: as many parameters as jobs would be another statement for every number of them
        .where(Job.id == any_(literal(list(job_ids), ARRAY(Uuid))))
    )


def results_page(job_id: uuid.UUID, *, after: int, limit: int) -> Select[Result]:
    """Results by index behind `after` (-1 at first): one more than `limit`, to tell what follows."""
    return (
        select(Result)
        .where(Result.job_id == job_id, Result.index > after)
        .order_by(Result.index)
        .limit(limit + 1)
    )


def workers_online(model: str | None = None) -> Select[int]:
    """How many workers are loaded and alive, for one model or at all."""
    online = (
        select(func.count())
        .select_from(Worker)
        .where(Worker.state == WorkerState.ONLINE, _seen(ONLINE_SECONDS))
    )
    return online.where(Worker.model == model) if model is not None else online


def workers() -> Select[Worker, bool]:
    """The workers of the last day and whether each was seen just now, newest first."""
    return (
        select(Worker, _seen(ONLINE_SECONDS))
        .where(_seen(WORKERS_SHOWN_DAYS * 86_400))
        .order_by(Worker.seen_at.desc())
        .limit(500)
    )


def waiting_models(limit: int) -> Select[str, uuid.UUID, int]:
    """Models with claimable work: the model, its oldest waiting job, its waiting units (up to a limit)."""
    models = select(Work.model).where(_claimable()).distinct().cte("models")
    oldest = (
        select(Work.job_id)
        .where(Work.model == models.c.model, _claimable())
        .order_by(Work.id)
        .limit(1)
        .scalar_subquery()
    )
    some = select(literal(1)).where(Work.model == models.c.model, _claimable()).limit(limit).correlate(models)
    count = select(func.count()).select_from(some.subquery().lateral()).scalar_subquery()
    return select(cast(models.c.model, Text), oldest, count)


def last_outcome(job_id: uuid.UUID, unit: int) -> Select[str | None]:
    """How the last try at a unit ended."""
    return (
        select(Attempt.outcome)
        .where(Attempt.job_id == job_id, Attempt.unit == unit)
        .order_by(Attempt.attempt.desc())
        .limit(1)
    )


def _claimable() -> ColumnElement[bool]:
    return Work.lease_token.is_(None) & (Work.run_at <= func.now())


def _seen(seconds: int) -> ColumnElement[bool]:
    return Worker.seen_at > func.now() - timedelta(seconds=seconds)
