"""From a checked submission to a committed job, once for every key."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from api.deps import Services
from api.uploads import Upload, hash_pictures, store_pictures
from jobs import idempotency, queries, submit
from jobs.idempotency import Once
from jobs.submit import Submission
from models.job import Job


@dataclass(frozen=True, slots=True)
class Accepted:
    """A committed job, how many workers of its model are online, and whether it is new to its key."""

    job: Job
    online: int | None
    new: bool


async def accept(
    services: Services, tenant: str, submission: Submission, uploads: Sequence[Upload], key: str | None
) -> Accepted:
    """Store the pictures, then the job, unless the key stands for one already.

    Raises:
        UnknownImageError: an id names no image of the tenant.
        IdempotencyKeyReusedError: the key stands for another submission.
    """
    once = await _identify(services, tenant, submission, uploads, key)
    if once is not None:
        async with services.sessions() as session:
            known = await session.run_sync(idempotency.find_job, tenant, once)
            if known is not None:
                online = await session.scalar(queries.workers_online(known.model))
                return Accepted(known, online, new=False)
    if uploads:
        items = await store_pictures(services.blobs, tenant, uploads)
        submission = replace(submission, items=items)
    async with services.sessions() as session:
        if once is None:
            job, new = await session.run_sync(submit.submit, tenant, submission), True
        else:
            job, new = await session.run_sync(idempotency.submit_once, tenant, submission, once)
        online = await session.scalar(queries.workers_online(job.model))
        await session.commit()
    return Accepted(job, online, new)


async def _identify(
    services: Services, tenant: str, submission: Submission, uploads: Sequence[Upload], key: str | None
) -> Once | None:
    """The key with the fingerprint of what it stands for; unknown images are refused before any is stored."""
    async with services.sessions() as session:
        named = await session.run_sync(submit.check_images, tenant, submission.items)
    if key is None:
        return None
    if uploads:
        submission = replace(submission, items=await hash_pictures(uploads))
    return Once(key, idempotency.fingerprint(submission, named))
