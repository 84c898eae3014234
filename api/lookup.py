"""Finding what a request names: a tenant's own, or nothing."""

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.schemas.ids import parse_job_id
from jobs import queries
from jobs.deletion import existing
from jobs.errors import ResultsExpiredError
from models.job import Job


async def find_job(session: AsyncSession, tenant: str, wire_id: str) -> Job:
    """The tenant's job of this id.

    Raises:
        NotFoundError: there is none, or it is another tenant's.
        JobDeletedError: it was deleted.
    """
    return existing(await session.scalar(queries.job_of(tenant, parse_job_id(wire_id))))


async def find_kept_job(session: AsyncSession, tenant: str, wire_id: str) -> Job:
    """The tenant's job of this id, whose results can be read.

    Raises:
        NotFoundError: there is none, or it is another tenant's.
        JobDeletedError: it was deleted.
        ResultsExpiredError: its results were removed, or are about to be.
    """
    return await check_kept(session, await find_job(session, tenant, wire_id))


async def check_kept(session: AsyncSession, job: Job) -> Job:
    """The job, whose results can be read.

    Raises:
        ResultsExpiredError: its results were removed, or are about to be.
    """
    # by the database's clock; they are removed in slices, and nobody is to see half of them
    over = select(literal(job.expires_at) < func.now())
    if job.results_removed_at or (job.expires_at and await session.scalar(over)):
        raise ResultsExpiredError
    return job
