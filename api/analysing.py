"""From the wish for an analyst's job, such as a summary, to a committed job, once for every key."""

import uuid
from collections.abc import Callable

import structlog
from fastapi import Response
from sqlalchemy.orm import Session

from api.deps import Caller, Services
from api.once import REPLAYED, in_turn
from api.schemas import jobs as schema
from api.schemas.ids import parse_job_id
from api.writing import writing
from jobs import queries
from jobs.errors import NotFoundError, UnknownJobError
from jobs.idempotency import Once, make_once
from jobs.outlook import outlook_of
from models.job import Job

log = structlog.get_logger()

POLL_SECONDS = "1"

Submit = Callable[[Session, uuid.UUID | None], Job]
"""Stores the job, under the id that its key stands for if there is one."""


def job_named(wire_id: str, field: str) -> uuid.UUID:
    """The uuid of a job that this field of a body names.

    Raises:
        UnknownJobError: it is not the id of any job; answered exactly as an id that nobody has.
    """
    try:
        return parse_job_id(wire_id)
    except NotFoundError:
        raise UnknownJobError(pointer=f"/{field}") from None


async def submit_analysis(
    services: Services, caller: Caller, response: Response, once: Once | None, submit: Submit
) -> schema.JobView:
    """Store the job, or find that of the key; its workers are invited, and the headers of the answer set.

    Raises:
        DomainError: what `submit` raises, or the key stands for another request.
    """

    def make_or_find(session: Session) -> tuple[Job, bool]:
        return make_once(
            session,
            caller.tenant,
            once,
            lambda made_id: submit(session, made_id),
            lambda made_id: session.scalar(queries.job_of(caller.tenant, made_id)),
        )

    async def make() -> tuple[Job, bool, schema.JobView]:
        async with writing(services, services.slow, caller.tenant) as session:
            job, new = await session.run_sync(make_or_find)
            return job, new, schema.view(job, await session.run_sync(outlook_of, job.id))

    job, new, shown = await in_turn(make)
    if new:
        log.info("job.submitted", job_id=str(job.id), model=job.model, items=job.total)
        services.usage.count_job(caller.key_id, job.total, job.cost)
        services.inviter.invite(job.model, job.id)
    else:
        response.headers.update(REPLAYED)
    response.headers["Location"] = shown.links.self
    if not shown.done:
        response.headers["Retry-After"] = POLL_SECONDS
    return shown
