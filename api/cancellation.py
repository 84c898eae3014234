"""Cancelling a job: marked in one transaction, then relieved of its waiting work a slice at a time."""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.deps import Services
from api.errors import BusyError
from api.writing import writing
from jobs import cancel, fairness, queries
from jobs.deletion import existing
from jobs.fairness import FlowKey
from jobs.outlook import Outlook, outlook_of
from models.job import Job

log = structlog.get_logger()

DROP_SECONDS = 2.0
"""So long a request drops work itself; the maintenance goes on with what is left."""


async def cancel_job(
    services: Services, tenant: str, job_id: uuid.UUID, note: Callable[[Session], None] | None = None
) -> tuple[Job, Outlook]:
    """Cancel a job: how it stands now, and what it has before it.

    `note` writes down that it is cancelled, in the same transaction.

    Work that a worker holds is left to it: the job is being cancelled until that has ended too.

    Raises:
        NotFoundError, JobDeletedError: the tenant has no such job, or has it no more.
        AlreadyEndedError: it ended in another way before.
    """
    async with writing(services, services.ending, tenant) as session:
        job = await session.run_sync(cancel.cancel, tenant, job_id)
        if note is not None:
            await session.run_sync(note)
        outlook = await session.run_sync(outlook_of, job_id)
    try:
        await _drop_waiting(services, tenant, job_id, fairness.flow_of(job))
        async with services.sessions() as session:
            job = existing(await session.scalar(queries.job_of(tenant, job_id)))
    except (SQLAlchemyError, BusyError) as error:
        # it is cancelled all the same: the maintenance drops its work
        log.warning("cancel.left_to_maintenance", job_id=str(job_id), error=type(error).__name__)
    return job, outlook


async def _drop_waiting(services: Services, tenant: str, job_id: uuid.UUID, flow: FlowKey) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + DROP_SECONDS
    while clock() < deadline:
        async with writing(services, services.ending, tenant) as session:
            cost = await session.run_sync(cancel.drop_work, job_id)
        if cost is None:
            return
        # apart from the slice: a clock that is locked holds up the flow's submits
        await services.refunds.pay(flow, partial(fairness.refund, flow=flow, cost=cost))
