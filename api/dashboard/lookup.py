"""Finding what a page is about: what its visitor may see, or nothing."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from api.dashboard.visitor import Visitor
from api.lookup import check_kept
from api.schemas.ids import parse_job_id
from jobs.deletion import existing
from jobs.errors import NotFoundError
from models.job import Job


async def find_job(session: AsyncSession, visitor: Visitor, wire_id: str) -> Job:
    """The job of this id without its options, whose labels may weigh more than all the rest.

    Raises:
        NotFoundError: there is none, or it is a tenant's whom the visitor does not see.
        JobDeletedError: it was deleted.
    """
    wanted = select(Job).options(defer(Job.options, raiseload=True)).where(Job.id == parse_job_id(wire_id))
    job = await session.scalar(wanted)
    if job is None or not visitor.sees(job.tenant):
        raise NotFoundError
    return existing(job)


async def find_kept_job(session: AsyncSession, visitor: Visitor, wire_id: str) -> Job:
    """The same, of a job whose results can be read.

    Raises:
        NotFoundError: there is none, or it is a tenant's whom the visitor does not see.
        JobDeletedError: it was deleted.
        ResultsExpiredError: its results were removed, or are about to be.
    """
    return await check_kept(session, await find_job(session, visitor, wire_id))
