"""What is read of jobs and workers; statements only, executed at the doors."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Double,
    Select,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import defer

from models.job import Job, Result
from models.queue import ANALYSIS, Queue
from models.types import WorkerState
from models.work import Attempt, Work
from models.worker import Worker

ONLINE_SECONDS = 10
"""A worker that was not seen for longer counts as gone."""
WORKERS_SHOWN_DAYS = 1
RATE_SECONDS = 600
"""What a worker measured longer ago says nothing of now."""


def _seen(seconds: int) -> ColumnElement[bool]:
    return Worker.seen_at > func.now() - timedelta(seconds=seconds)


def results_kept() -> ColumnElement[bool]:
    """Whether the results of a job are there and to stay for now, by the database's clock.

    They go in slices: whoever reads them once their time is over may read half of them.
    """
    return (
        Job.results_removed_at.is_(None)
        & Job.deleted_at.is_(None)
        & func.coalesce(Job.expires_at > func.now(), true())
    )


# What every poll and submit asks is built once: to build a statement and to find it in the cache of compiled
# ones takes several times as long as to execute it.
_JOB_OF = (
    select(Job)
    .options(defer(Job.options, raiseload=True))
    .where(Job.id == bindparam("job_id"), Job.tenant == bindparam("tenant"))
)
_WORKERS_ONLINE = (
    select(func.count()).select_from(Worker).where(Worker.state == WorkerState.ONLINE, _seen(ONLINE_SECONDS))
)
_ANY_MODELS_WORKERS_ONLINE = _WORKERS_ONLINE.where(Worker.model != ANALYSIS)
_MODELS_WORKERS_ONLINE = _WORKERS_ONLINE.where(Worker.model == bindparam("model"))


def is_kept(job_id: uuid.UUID) -> Select[bool]:
    """Whether the results of a job are kept, see `results_kept`; no row when the job is gone."""
    return select(results_kept()).where(Job.id == job_id)


def job_of(tenant: str, job_id: uuid.UUID) -> Select[Job]:
    """A job, if it is the tenant's; without its options, whose labels may weigh more than all the rest."""
    return _JOB_OF.params(job_id=job_id, tenant=tenant)


def whole_job_of(tenant: str, job_id: uuid.UUID) -> Select[Job]:
    """The same, with its options."""
    return select(Job).where(Job.id == job_id, Job.tenant == tenant)


def standings(job_ids: Sequence[uuid.UUID]) -> Select[uuid.UUID, str, int, int, int, int, bool]:
    """Where these jobs stand: id, state, counts, the workers online for its model, whether that is paused."""
    online = models_online().subquery()
    return (
        select(
            Job.id,
            Job.state,
            Job.succeeded,
            Job.failed,
            Job.dropped,
            func.coalesce(online.c.workers, 0),
            Queue.paused_at.is_not(None),
        )
        .outerjoin(online, online.c.model == Job.model)
        .outerjoin(Queue, Queue.model == Job.model)
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


def result_of(job_id: uuid.UUID, index: int) -> Select[Result]:
    """The result of one item, once it has one."""
    return select(Result).where(Result.job_id == job_id, Result.index == index)


def workers_online(model: str | None = None) -> Select[int]:
    """How many workers are loaded and alive, for one model or for any."""
    return _ANY_MODELS_WORKERS_ONLINE if model is None else _MODELS_WORKERS_ONLINE.params(model=model)


def workers_on(hostname: str) -> Select[int]:
    """How many workers of one host are loaded and alive, whether they take work or are to drain."""
    return (
        select(func.count())
        .select_from(Worker)
        .where(
            Worker.hostname == hostname,
            Worker.state.in_((WorkerState.ONLINE, WorkerState.DRAINING)),
            _seen(ONLINE_SECONDS),
        )
    )


def models_online() -> Select[str, int]:
    """How many workers are loaded and alive, by model; models without one are absent."""
    return (
        select(Worker.model, func.count().label("workers"))
        .where(Worker.state == WorkerState.ONLINE, _seen(ONLINE_SECONDS))
        .group_by(Worker.model)
    )


def load_failures() -> Select[str, dict[str, Any]]:
    """By model, why its last worker of the last day could not load; absent where the last one could.

    A worker that is starting over after a failure still has the error of its last try.
    """
    told = (
        select(Worker.model, Worker.error)
        .ext(distinct_on(Worker.model))
        .where(
            _seen(WORKERS_SHOWN_DAYS * 86_400),
            (Worker.state != WorkerState.STARTING) | Worker.error.is_not(None),
        )
        .order_by(Worker.model, Worker.seen_at.desc())
        .subquery()
    )
    return select(told.c.model, told.c.error).where(told.c.error.is_not(None))


def queue_depths() -> Select[str, int, int, float | None]:
    """By model with work: its waiting and its running items, and the age in seconds of what waits longest.

    Reads every unit once (22 ms for 100,000).
    """
    waits = Work.lease_token.is_(None)
    age_seconds = func.extract("epoch", func.now() - func.uuid_extract_timestamp(Work.id))
    return select(
        Work.model,
        func.coalesce(func.sum(Work.items).filter(waits), 0),
        func.coalesce(func.sum(Work.items).filter(~waits), 0),
        cast(func.max(age_seconds).filter(waits), Double),
    ).group_by(Work.model)


def waiting_items() -> Select[int]:
    """How many items wait or run in all."""
    return select(func.coalesce(func.sum(Work.items), 0))


def seconds_per_gflop(model: str) -> Select[float | None]:
    """How fast the model's workers are, by their own measure."""
    return select(func.avg(Worker.seconds_per_gflop)).where(Worker.model == model, _seen(RATE_SECONDS))


def rates() -> Select[str, float]:
    """By model, how fast its workers are by their own measure, in seconds a GFLOP; absent if unmeasured."""
    return (
        select(Worker.model, func.avg(Worker.seconds_per_gflop))
        .where(Worker.seconds_per_gflop.is_not(None), _seen(RATE_SECONDS))
        .group_by(Worker.model)
    )


def workers() -> Select[Worker, bool]:
    """The workers of the last day and whether each was seen just now, newest first."""
    return (
        select(Worker, _seen(ONLINE_SECONDS))
        .where(_seen(WORKERS_SHOWN_DAYS * 86_400))
        .order_by(Worker.seen_at.desc())
        .limit(500)
    )


def worker_of(worker_id: uuid.UUID) -> Select[Worker, bool]:
    """One worker, and whether it was seen just now."""
    return select(Worker, _seen(ONLINE_SECONDS)).where(Worker.id == worker_id)


def waiting_models(limit: int) -> Select[str, uuid.UUID, int]:
    """Models with claimable work that are not paused: the model, its first waiting job, its waiting units.

    Of those no more than `limit` are counted.
    """
    waits = (Work.model == Queue.model) & Work.lease_token.is_(None) & (Work.run_at <= func.now())
    first = (
        select(Work.job_id)
        .where(waits)
        .order_by(Work.vtime, Work.id)
        .limit(1)
        .correlate(Queue)
        .lateral("first")
    )
    # in the order of the index: without one the planner may scan the whole table in the hope of early hits
    some = select(literal(1)).where(waits).order_by(Work.vtime, Work.id).limit(limit).correlate(Queue)
    count = select(func.count()).select_from(some.subquery().lateral()).scalar_subquery()
    return (
        select(Queue.model, first.c.job_id, count)
        .join(first, literal(value=True))
        .where(Queue.paused_at.is_(None))
    )


def last_outcome(job_id: uuid.UUID, unit: int) -> Select[str | None]:
    """How the last try at a unit ended."""
    return (
        select(Attempt.outcome)
        .where(Attempt.job_id == job_id, Attempt.unit == unit)
        .order_by(Attempt.attempt.desc())
        .limit(1)
    )
