"""From the wish to try a job again to a committed job, once for every key."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.deps import Services
from api.once import in_turn
from api.submissions import Accepted, find_known, reservation_name, settle
from api.writing import writing
from jobs import idempotency, retry
from jobs.errors import AlreadyRetriedError, QueueFullError, QuotaExceededError
from jobs.idempotency import Once
from jobs.outlook import outlook_of
from jobs.retry import Retry, RetryScope
from jobs.units import Admission
from models.job import Job


@dataclass(frozen=True, slots=True)
class Who:
    """Whose job is tried again, and by what key; `note` writes down that it is, in the same transaction."""

    tenant: str
    key_id: uuid.UUID | None
    note: Callable[[Session, Job], None] | None = None


async def retry_job(
    services: Services,
    who: Who,
    job_id: uuid.UUID,
    scope: RetryScope,
    once: Once | None,
) -> Accepted:
    """Admit the new job, then store it, unless the key stands for one already.

    Raises:
        DomainError: the job cannot be tried again, see `jobs.retry`, or there is no room for it.
    """
    if known := await find_known(services, who.tenant, once):
        return known
    try:
        wanted, admission = await _admit(services, who, job_id, scope, reservation_name(once))
    except (AlreadyRetriedError, QueueFullError, QuotaExceededError):
        # perhaps it was its twin that has just taken the room, or tried it again
        if known := await find_known(services, who.tenant, once):
            return known
        raise

    async def store() -> Accepted:
        async with writing(services, services.slow, who.tenant) as session:
            job, new = await session.run_sync(_store, who, wanted, admission, once)
            return Accepted(job, await session.run_sync(outlook_of, job.id), new)

    return await settle(services, admission, len(wanted.submission.items), lambda: in_turn(store))


async def _admit(
    services: Services, who: Who, job_id: uuid.UUID, scope: RetryScope, reserve_as: str
) -> tuple[Retry, Admission]:
    async with writing(services, services.slow, who.tenant) as session:
        wanted = await session.run_sync(retry.find_retry, who.tenant, job_id, scope, who.key_id)
        admission = await session.run_sync(
            retry.admit_retry,
            wanted,
            services.catalog,
            services.settings.quota(),
            reserve_as=reserve_as,
            waiting_items=services.backlog.items,
        )
        return wanted, admission


def _store(
    session: Session, who: Who, wanted: Retry, admission: Admission, once: Once | None
) -> tuple[Job, bool]:
    def make(new_id: uuid.UUID | None) -> Job:
        job = retry.store_retry(session, wanted, admission, job_id=new_id)
        if who.note is not None:
            who.note(session, job)
        return job

    return idempotency.make_once(
        session, who.tenant, once, make, lambda known: idempotency.known_job(session, who.tenant, known)
    )
