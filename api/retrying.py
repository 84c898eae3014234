"""From the wish to try a job again to a committed job, once for every key."""

import uuid
from dataclasses import replace

from sqlalchemy.orm import Session

from api.deps import Caller, Services
from api.submissions import Accepted, find_known, settle
from jobs import idempotency, retry
from jobs.admission import admit
from jobs.errors import QueueFullError, QuotaExceededError
from jobs.idempotency import Once
from jobs.outlook import outlook_of
from jobs.retry import Retry, RetryScope
from jobs.units import Admission
from models.job import Job


async def retry_job(
    services: Services, caller: Caller, job_id: uuid.UUID, scope: RetryScope, once: Once | None
) -> Accepted:
    """Admit the new job, then store it, unless the key stands for one already.

    Raises:
        DomainError: the job cannot be tried again, see `jobs.retry`, or there is no room for it.
    """
    if known := await find_known(services, caller.tenant, once):
        return known
    try:
        wanted, admission = await _admit(services, caller, job_id, scope)
    except (QueueFullError, QuotaExceededError):
        # perhaps there is no room because its twin has just taken it
        if known := await find_known(services, caller.tenant, once):
            return known
        raise

    async def store() -> Accepted:
        async with services.sessions.begin() as session:
            job, new = await session.run_sync(_store, caller, wanted, admission, once)
            return Accepted(job, await session.run_sync(outlook_of, job.id), new)

    return await settle(services, admission, len(wanted.submission.items), store)


async def _admit(
    services: Services, caller: Caller, job_id: uuid.UUID, scope: RetryScope
) -> tuple[Retry, Admission]:
    async with services.sessions.begin() as session:
        wanted = await session.run_sync(retry.find_retry, caller.tenant, job_id, scope, caller.key_id)
        admission = await session.run_sync(
            admit,
            caller.tenant,
            wanted.submission,
            services.catalog,
            services.settings.quota(),
            input_bytes=wanted.input_bytes,
            waiting_items=services.backlog.items,
        )
        return wanted, admission


def _store(
    session: Session, caller: Caller, wanted: Retry, admission: Admission, once: Once | None
) -> tuple[Job, bool]:
    def make(new_id: uuid.UUID | None) -> Job:
        # held once more: since it was admitted it may have been deleted
        again = retry.find_retry(session, caller.tenant, wanted.job.id, wanted.scope, caller.key_id)
        return retry.store_retry(session, replace(wanted, job=again.job), admission, job_id=new_id)

    return idempotency.make_once(
        session, caller.tenant, once, make, lambda known: idempotency.known_job(session, caller.tenant, known)
    )
